//! Which parameters of an SQLite statement are integers, although SQLite itself has no parameter types.
//!
//! A parameter is one only if *every* place where it stands says so: `column = ?`, `? = column` (also `==`, `IS`,
//! `column IN (?, …)`) with a column whose affinity is INTEGER, `CAST(? AS INTEGER)`, or `LIMIT ?`. This reads tokens
//! and the schema, not SQL's grammar, so whatever it is not sure of (an expression, a column that two tables could
//! mean, a name of a subquery or a CTE) stays TEXT. TEXT is the safe side: SQLite converts it where it is compared with
//! such a column, and only the query for a key that cannot match is not spared.

use super::tokens::{Token, identifier, sign, tokens, word};
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};

/// For each of `count` parameters `?1`, `?2` …, whether it is certainly an integer.
pub(super) fn integers(connection: &Connection, sql: &str, count: usize) -> Vec<bool> {
    let tokens = tokens(sql);
    let schema = Schema::of(connection, &tokens);
    let mut seen = vec![false; count];
    let mut all = vec![true; count];
    for (at, token) in tokens.iter().enumerate() {
        if let Token::Parameter(index) = token
            && *index < count
        {
            seen[*index] = true;
            all[*index] &= is_integer(&tokens, at, &schema);
        }
    }
    seen.into_iter().zip(all).map(|(seen, all)| seen && all).collect()
}

fn is_integer(tokens: &[Token], at: usize, schema: &Schema) -> bool {
    is_cast(tokens, at)
        || is_limit(tokens, at)
        || column_before(tokens, at, schema)
        || column_after(tokens, at, schema)
        || in_list(tokens, at, schema)
}

/// `CAST ( ?1 AS INTEGER )`.
fn is_cast(tokens: &[Token], at: usize) -> bool {
    let before = at >= 2 && word(tokens.get(at - 2), "cast") && sign(tokens.get(at - 1), "(");
    let named = matches!(tokens.get(at + 2), Some(Token::Word(name)) if has_integer_affinity(name));
    before && word(tokens.get(at + 1), "as") && named && sign(tokens.get(at + 3), ")")
}

/// `LIMIT ?1 OFFSET ?2` and `LIMIT ?1, ?2`, where SQLite takes nothing else.
fn is_limit(tokens: &[Token], at: usize) -> bool {
    let after_keyword = |at: usize| at > 0 && (word(tokens.get(at - 1), "limit") || word(tokens.get(at - 1), "offset"));
    let second = at >= 2 && sign(tokens.get(at - 1), ",") && after_keyword(at - 2);
    let next = tokens.get(at + 1);
    (after_keyword(at) || second) && (ends_term(next) || sign(next, ",") || word(next, "offset"))
}

/// `… WHERE table.column = ?1 AND …`.
fn column_before(tokens: &[Token], at: usize, schema: &Schema) -> bool {
    let Some(end) = at.checked_sub(1) else { return false };
    is_equality(&tokens[end]) && ends_term(tokens.get(at + 1)) && column_ending_at(tokens, end, schema)
}

/// A column whose last token stands before `end`, with nothing before it that would make it part of an expression.
fn column_ending_at(tokens: &[Token], end: usize, schema: &Schema) -> bool {
    let Some(name) = end.checked_sub(1).and_then(|at| identifier(&tokens[at])) else { return false };
    let qualified = end >= 3 && sign(tokens.get(end - 2), ".");
    let (table, start) = if qualified { (identifier(&tokens[end - 3]), end - 3) } else { (None, end - 1) };
    if qualified && table.is_none() {
        return false;
    }
    start > 0 && starts_term(&tokens[start - 1]) && schema.is_integer(table, name)
}

/// `… WHERE ?1 = table.column AND …`.
fn column_after(tokens: &[Token], at: usize, schema: &Schema) -> bool {
    let opens = at > 0 && starts_term(&tokens[at - 1]);
    if !opens || !tokens.get(at + 1).is_some_and(is_equality) {
        return false;
    }
    let Some(first) = tokens.get(at + 2).and_then(identifier) else { return false };
    let (table, name, end) = match (tokens.get(at + 3), tokens.get(at + 4).and_then(identifier)) {
        (Some(Token::Sign(".")), Some(name)) => (Some(first), name, at + 5),
        _ => (None, first, at + 3),
    };
    ends_term(tokens.get(end)) && schema.is_integer(table, name)
}

/// `column IN (?1, ?2, 3)`: only parameters and literals in the list.
fn in_list(tokens: &[Token], at: usize, schema: &Schema) -> bool {
    let is_item = |token: &Token| matches!(token, Token::Parameter(_) | Token::Literal | Token::Sign(","));
    let Some(open) = tokens[..at].iter().rposition(|token| !is_item(token)) else { return false };
    let closes = tokens[at..].iter().find(|token| !is_item(token)) == Some(&Token::Sign(")"));
    let is_in = open >= 2 && tokens[open] == Token::Sign("(") && word(tokens.get(open - 1), "in");
    closes && is_in && column_ending_at(tokens, open - 1, schema)
}

fn is_equality(token: &Token) -> bool {
    matches!(token, Token::Sign("=" | "==")) || word(Some(token), "is")
}

/// What may stand directly before a comparison that is a condition of its own.
fn starts_term(token: &Token) -> bool {
    match token {
        Token::Sign(sign) => *sign == "(",
        Token::Word(name) => {
            ["where", "and", "or", "on", "not", "having", "when"].contains(&name.to_ascii_lowercase().as_str())
        }
        _ => false,
    }
}

/// What may stand directly after it.
fn ends_term(token: Option<&Token>) -> bool {
    const AFTER: [&str; 16] = [
        "and",
        "or",
        "order",
        "group",
        "limit",
        "union",
        "except",
        "intersect",
        "then",
        "having",
        "window",
        "join",
        "left",
        "inner",
        "cross",
        "where",
    ];
    match token {
        None => true,
        Some(Token::Sign(sign)) => *sign == ")",
        Some(Token::Word(name)) => AFTER.contains(&name.to_ascii_lowercase().as_str()),
        _ => false,
    }
}

/// SQLite's first rule of affinity: a declared type that contains "INT".
fn has_integer_affinity(declared: &str) -> bool {
    declared.to_ascii_uppercase().contains("INT")
}

/// The tables that the statement names, by alias.
struct Schema {
    /// Alias or name, in lower case; `None` where two tables share it.
    tables: HashMap<String, Option<Columns>>,
    /// Whether an unqualified name can only mean a column of `tables`, or what `named` holds.
    closed: bool,
    /// Names in lower case that the statement gives to columns of its own: `… AS name`, `… name`.
    named: HashSet<String>,
}

/// Whether each column, in lower case, has INTEGER affinity.
type Columns = HashMap<String, bool>;

impl Schema {
    fn of(connection: &Connection, tokens: &[Token]) -> Schema {
        let closed = !tokens.iter().any(|token| word(Some(token), "with")) && !has_derived_table(tokens);
        let own = own_names(tokens);
        let mut tables: HashMap<String, Option<Columns>> = HashMap::new();
        for (alias, name) in named_tables(tokens) {
            let known = (!own.contains(&name)).then(|| columns(connection, &name)).flatten();
            tables.entry(alias).and_modify(|entry| *entry = None).or_insert(known);
        }
        Schema { tables, closed, named: column_names(tokens) }
    }

    fn is_integer(&self, table: Option<&str>, column: &str) -> bool {
        let column = column.to_ascii_lowercase();
        match table {
            Some(table) => match self.tables.get(&table.to_ascii_lowercase()) {
                Some(Some(columns)) => columns.get(&column) == Some(&true),
                _ => false,
            },
            None if !self.closed || self.named.contains(&column) || self.tables.values().any(Option::is_none) => false,
            None => {
                let mut owners = self.tables.values().flatten().filter_map(|columns| columns.get(&column)).peekable();
                owners.peek().is_some() && owners.all(|integer| *integer)
            }
        }
    }
}

/// Names that the statement itself may give to what is no table: `name AS (…)`, `name(…) AS (…)`, `(…) name`,
/// `(…) AS name`. Too many names here only make it less certain.
fn own_names(tokens: &[Token]) -> Vec<String> {
    let is_own = |at: usize| {
        let before = |distance: usize| at.checked_sub(distance).and_then(|at| tokens.get(at));
        let after_parenthesis = sign(before(1), ")") || (word(before(1), "as") && sign(before(2), ")"));
        let cte = sign(tokens.get(at + 1), "(") || (word(tokens.get(at + 1), "as") && sign(tokens.get(at + 2), "("));
        after_parenthesis || cte
    };
    let own = tokens.iter().enumerate().filter(|(at, _)| is_own(*at));
    own.filter_map(|(_, token)| identifier(token).map(str::to_ascii_lowercase)).collect()
}

/// `FROM (…)` and its like: columns that no table of the schema has.
fn has_derived_table(tokens: &[Token]) -> bool {
    let mut in_from = false;
    tokens.windows(2).any(|pair| {
        let opens = word(Some(&pair[0]), "from") || word(Some(&pair[0]), "join");
        in_from = opens || (in_from && !ends_from(&pair[0]));
        (opens || (in_from && sign(Some(&pair[0]), ","))) && sign(Some(&pair[1]), "(")
    })
}

/// Whatever follows `AS`, or stands directly behind another name, a value or a `)`. Aliases of tables are among them.
fn column_names(tokens: &[Token]) -> HashSet<String> {
    const NO_VALUE: [&str; 24] = [
        "select", "distinct", "all", "where", "and", "or", "not", "on", "by", "having", "when", "then", "else", "case",
        "in", "is", "like", "between", "using", "from", "join", "collate", "limit", "offset",
    ];
    let named = tokens.windows(2).filter_map(|pair| {
        let ends_value = match &pair[0] {
            Token::Word(name) => !NO_VALUE.contains(&name.to_ascii_lowercase().as_str()),
            Token::Quoted(_) | Token::Literal | Token::Parameter(_) => true,
            Token::Sign(sign) => *sign == ")",
        };
        identifier(&pair[1]).filter(|_| ends_value).map(str::to_ascii_lowercase)
    });
    named.collect()
}

/// `(alias, table)` of every `FROM table`, `JOIN table` and `, table` of a FROM list, in lower case.
fn named_tables(tokens: &[Token]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut in_from = false;
    while at < tokens.len() {
        let opens = word(tokens.get(at), "from") || word(tokens.get(at), "join");
        let continues = in_from && sign(tokens.get(at), ",");
        at += 1;
        if !opens && !continues {
            in_from &= !ends_from(&tokens[at - 1]);
            continue;
        }
        in_from = true;
        let Some(mut name) = tokens.get(at).and_then(identifier) else { continue };
        at += 1;
        if sign(tokens.get(at), ".")
            && let Some(inner) = tokens.get(at + 1).and_then(identifier)
        {
            (name, at) = (inner, at + 2);
        }
        at += usize::from(word(tokens.get(at), "as"));
        let alias = tokens.get(at).and_then(identifier).filter(|alias| !is_after_table(alias)).unwrap_or(name);
        found.push((alias.to_ascii_lowercase(), name.to_ascii_lowercase()));
    }
    found
}

fn ends_from(token: &Token) -> bool {
    if sign(Some(token), ")") {
        return true;
    }
    ["where", "group", "order", "limit", "having", "union", "except", "intersect", "select", "window"]
        .iter()
        .any(|keyword| word(Some(token), keyword))
}

/// Keywords that may follow a table where an alias could stand.
fn is_after_table(name: &str) -> bool {
    const KEYWORDS: [&str; 20] = [
        "where",
        "join",
        "left",
        "right",
        "full",
        "inner",
        "cross",
        "natural",
        "outer",
        "on",
        "using",
        "order",
        "group",
        "limit",
        "having",
        "union",
        "except",
        "intersect",
        "indexed",
        "window",
    ];
    KEYWORDS.contains(&name.to_ascii_lowercase().as_str()) || name.eq_ignore_ascii_case("not")
}

fn columns(connection: &Connection, table: &str) -> Option<Columns> {
    let sql = "SELECT name, type FROM pragma_table_xinfo(?1)";
    let mut statement = connection.prepare_cached(sql).ok()?;
    let rows =
        statement.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))).ok()?;
    let mut columns = Columns::new();
    for row in rows {
        let (name, declared) = row.ok()?;
        columns.insert(name.to_ascii_lowercase(), has_integer_affinity(&declared.unwrap_or_default()));
    }
    (!columns.is_empty()).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(sql: &str) -> Vec<bool> {
        let connection = Connection::open_in_memory().unwrap();
        let schema = "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, category_id BIGINT, sku, price REAL);
            CREATE TABLE categories (id INTEGER PRIMARY KEY, name TEXT, code TEXT);
            CREATE TABLE codes (id TEXT PRIMARY KEY);
            CREATE VIEW shop AS SELECT id, name FROM products;";
        connection.execute_batch(schema).unwrap();
        connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let count = tokens(sql)
            .iter()
            .filter_map(|token| if let Token::Parameter(n) = token { Some(n + 1) } else { None })
            .max();
        integers(&connection, sql, count.unwrap_or(0))
    }

    #[test]
    fn a_comparison_with_an_integer_column_makes_an_integer() {
        for sql in [
            "SELECT * FROM products WHERE id = ?1",
            "SELECT * FROM products WHERE ?1 == id",
            "SELECT * FROM products AS p WHERE p.category_id=?1 ORDER BY id",
            "SELECT * FROM products p JOIN categories c ON c.id = p.category_id WHERE (c.id = ?1)",
            "SELECT * FROM categories c, products p WHERE p.\"category_id\" IS ?1 AND c.id > 5",
            "SELECT * FROM main.products WHERE [id] = ?1 -- = 'x'",
            "SELECT * FROM products WHERE id IN (?1, 5)",
            "SELECT * FROM shop WHERE id = ?1",
            "SELECT * FROM products LIMIT ?1",
            "SELECT (SELECT count(*) FROM categories c WHERE c.id = category_id), name FROM products WHERE id = ?1",
            "SELECT name FROM products WHERE id = ?1 UNION ALL SELECT code FROM categories",
            "SELECT name FROM products p WHERE EXISTS (SELECT 1 FROM categories c WHERE c.id = 5) AND category_id = ?1",
            "SELECT * FROM products LIMIT 5 OFFSET ?1",
            "SELECT * FROM products LIMIT 5, ?1",
            "SELECT * FROM codes WHERE id = CAST(?1 AS INTEGER)",
            "WITH x AS (SELECT 1) SELECT * FROM products p, x WHERE p.id = ?1",
        ] {
            assert_eq!(inferred(sql), [true], "{sql}");
        }
    }

    #[test]
    fn whatever_is_not_certain_stays_text() {
        for sql in [
            "SELECT * FROM products WHERE name = ?1",
            "SELECT * FROM products WHERE sku = ?1",
            "SELECT * FROM products WHERE price = ?1",
            "SELECT * FROM products WHERE id > ?1",
            "SELECT * FROM products WHERE id >= ?1",
            "SELECT * FROM products WHERE id != ?1",
            "SELECT * FROM products WHERE id = ?1 || ''",
            "SELECT * FROM products WHERE 1 + id = ?1",
            "SELECT * FROM products WHERE id = ?1 OR name = ?1",
            "SELECT * FROM products WHERE lower(name) = ?1",
            "SELECT ?1, id FROM products",
            "SELECT * FROM products LIMIT ?1 || 'x'",
            "SELECT * FROM (SELECT 'a' AS id) WHERE id = ?1",
            "WITH products AS (SELECT 'a' AS id) SELECT * FROM products WHERE products.id = ?1",
            "SELECT * FROM (SELECT 'a' AS id FROM products) AS products WHERE products.id = ?1",
            "WITH products(id) AS (SELECT 'a') SELECT * FROM products WHERE products.id = ?1",
            "SELECT code AS category_id FROM categories WHERE category_id = ?1 OR EXISTS (SELECT 1 FROM products)",
            "SELECT code category_id FROM categories WHERE category_id = ?1 OR EXISTS (SELECT 1 FROM products)",
            "SELECT 1 FROM products, (SELECT code AS k FROM categories) WHERE k = ?1",
            "SELECT 1 FROM codes WHERE id = ?1 AND EXISTS (SELECT 1 FROM products)",
            "SELECT * FROM codes p WHERE p.id = ?1 AND EXISTS (SELECT 1 FROM products p WHERE p.id = 1)",
            "SELECT * FROM products WHERE name = '?2 id = ' AND name = ?1",
        ] {
            assert_eq!(inferred(sql), [false], "{sql}");
        }
    }

    #[test]
    fn each_parameter_has_a_type_of_its_own() {
        assert_eq!(inferred("SELECT * FROM products WHERE name = ?2 AND id = ?1"), [true, false]);
    }
}
