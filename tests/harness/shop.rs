//! The tables that the tests load from, in SQL that SQLite and PostgreSQL read alike.

/// Products 1..=200, of which `detail` is valid JSON; users 1..=20; counters `a` = 10 and `b` = 41.
pub fn sql() -> String {
    let mut sql = String::from(
        "CREATE TABLE products (id bigint PRIMARY KEY, name text NOT NULL, price integer NOT NULL, detail text NOT NULL);
         CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, email text, visits integer NOT NULL);
         CREATE TABLE counters (name text PRIMARY KEY, amount bigint NOT NULL);
         INSERT INTO counters VALUES ('a', 10), ('b', 41);\n",
    );
    let products: Vec<String> = (1..=200).map(|id| format!("({id}, 'product {id}', {}, '{{}}')", 100 + id)).collect();
    sql.push_str(&format!("INSERT INTO products VALUES {};\n", products.join(", ")));
    let users: Vec<String> = (1..=20)
        .map(|id| format!("({id}, 'user {id}', {}, {id})", if id % 2 == 0 { "NULL" } else { "'u@example.org'" }))
        .collect();
    sql.push_str(&format!("INSERT INTO users VALUES {};\n", users.join(", ")));
    sql
}
