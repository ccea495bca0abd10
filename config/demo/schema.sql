-- The demo's shop: three tables, small enough to read, large enough to be worth caching.

CREATE TABLE categories (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE products (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL,
    price_cents INTEGER NOT NULL CHECK (price_cents > 0),
    category_id INTEGER NOT NULL REFERENCES categories (id),
    stock       INTEGER NOT NULL DEFAULT 0,
    sold        INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX products_by_category ON products (category_id);

CREATE TABLE users (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    email  TEXT NOT NULL UNIQUE,
    city   TEXT NOT NULL,
    phone  TEXT,                -- one in four has none: such a field is absent from the hash
    joined TEXT NOT NULL
);
