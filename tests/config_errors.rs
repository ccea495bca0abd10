//! Every error of a configuration file, as the operator reads it: the whole text, with place, line and hint.

use proptest::prelude::*;
use std::path::Path;
use weir::config;

const MANUAL: &str = include_str!("../config/weir.toml");

/// The environment of these tests.
fn env(name: &str) -> Option<String> {
    match name {
        "EMPTY" => Some(String::new()),
        "MYSQL_URL" => Some("mysql://app:secret@h/shop".into()),
        _ => None,
    }
}

/// Compares all errors of `toml` with `expected`; both begin and end with a newline that is not theirs.
fn refused(toml: &str, expected: &str) {
    let errors = config::parse(toml, Path::new("weir.toml"), env).expect_err("the file should be refused");
    let rendered = config::render_all(&errors, "weir.toml", toml, false);
    assert_eq!(rendered, expected.strip_prefix('\n').expect("a leading newline").trim_end(), "\n{rendered}\n");
}

#[test]
fn an_unknown_key_names_the_nearest_and_all() {
    refused(
        r##"[server]
lisen = ["127.0.0.1:6380"]
"##,
        r##"
error: unknown key `lisen` in [server]
 --> weir.toml:2:1
  |
2 | lisen = ["127.0.0.1:6380"]
  | ^^^^^
  |
  = help: did you mean `listen`? accepted here: listen, admin, workers, max_clients, password, users, auth, ready_after_warm, tls
"##,
    );
}

#[test]
fn an_unknown_key_far_from_all_names_all() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
flavour = 1
"##,
        r##"
error: unknown key `flavour` in [database.NAME]
 --> weir.toml:3:1
  |
3 | flavour = 1
  | ^^^^^^^
  |
  = help: accepted here: url, pool, timeout, prepare
"##,
    );
}

#[test]
fn an_unknown_section_names_the_nearest() {
    refused(
        r##"[sever]
workers = 2
"##,
        r##"
error: unknown section `sever`
 --> weir.toml:1:2
  |
1 | [sever]
  |  ^^^^^
  |
  = help: did you mean `server`? accepted here: server, upstream, embedded, database, defaults, route, invalidation, limits
"##,
    );
}

#[test]
fn what_a_later_version_accepts_says_so() {
    refused(
        r##"[embedded]
snapshot = "weir.snapshot"
[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
compress = "zstd"
"##,
        r##"
error: `snapshot` in [embedded] is not supported by this version
 --> weir.toml:2:1
  |
2 | snapshot = "weir.snapshot"
  | ^^^^^^^^
  |
  = help: remove it

error: `compress` in [[route]] is not supported by this version
 --> weir.toml:8:1
  |
8 | compress = "zstd"
  | ^^^^^^^^
  |
  = help: remove it
"##,
    );
}

#[test]
fn key_name_and_load_are_no_defaults() {
    refused(
        r##"[defaults]
name = "x"
"##,
        r##"
error: unknown key `name` in [defaults]
 --> weir.toml:2:1
  |
2 | name = "x"
  | ^^^^
  |
  = help: accepted here: database, rows, value, ttl, jitter, negative_ttl, max_value, load_timeout, on_modify, tags, grace, early_refresh, check_hits, check_invalidations, sliding, near, wait_for_fill
"##,
    );
}

#[test]
fn a_section_is_no_value() {
    refused(
        r##"server = 5
route = ["product"]
"##,
        r##"
error: `server` is a section
 --> weir.toml:1:1
  |
1 | server = 5
  | ^^^^^^
  |
  = help: write `[server]` above its keys

error: `route` is a section
 --> weir.toml:2:1
  |
2 | route = ["product"]
  | ^^^^^
  |
  = help: write `[[route]]` above its keys
"##,
    );
}

#[test]
fn a_route_stands_in_double_brackets() {
    refused(
        r##"[route]
key = "product:{id}"
"##,
        r##"
error: `route` is a section
 --> weir.toml:1:2
  |
1 | [route]
  |  ^^^^^
  |
  = help: write `[[route]]` above its keys
"##,
    );
}

#[test]
fn a_database_has_a_name() {
    refused(
        r##"[database]
url = "sqlite:shop.sqlite"
"##,
        r##"
error: `url` stands outside of any database's section
 --> weir.toml:2:1
  |
2 | url = "sqlite:shop.sqlite"
  | ^^^
  |
  = help: give the database a name, as in `[database.main]`
"##,
    );
}

#[test]
fn a_name_of_a_database_is_plain() {
    refused(
        r##"[database."my shop"]
url = "sqlite:shop.sqlite"
"##,
        r##"
error: `my shop` is no name of a database
 --> weir.toml:1:1
  |
1 | [database."my shop"]
  | ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write 1 to 64 of letters, digits, `_`, `-` and `.`
"##,
    );
}

#[test]
fn a_wrong_type_says_what_is_expected() {
    refused(
        r##"[server]
listen = "127.0.0.1:6380"
admin = 9600
workers = "2"
"##,
        r##"
error: expected an array, found a string
 --> weir.toml:2:10
  |
2 | listen = "127.0.0.1:6380"
  |          ^^^^^^^^^^^^^^^^
  |
  = help: write ["127.0.0.1:6380"]

error: expected a string, found an integer
 --> weir.toml:3:9
  |
3 | admin = 9600
  |         ^^^^
  |
  = help: put it in quotes

error: expected a whole number, found a string
 --> weir.toml:4:11
  |
4 | workers = "2"
  |           ^^^
  |
  = help: write it without quotes, as in 16
"##,
    );
}

#[test]
fn an_element_of_a_wrong_type_is_shown_alone() {
    refused(
        r##"[server]
listen = ["127.0.0.1:6380", 6381]
"##,
        r##"
error: expected a string, found an integer
 --> weir.toml:2:29
  |
2 | listen = ["127.0.0.1:6380", 6381]
  |                             ^^^^
  |
  = help: put it in quotes
"##,
    );
}

#[test]
fn a_wrong_boolean_says_what_to_write() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
prepare = "no"
"##,
        r##"
error: expected a boolean, found a string
 --> weir.toml:3:11
  |
3 | prepare = "no"
  |           ^^^^
  |
  = help: write true or false
"##,
    );
}

#[test]
fn a_wrong_unit_is_translated() {
    refused(
        r##"[defaults]
ttl = "5 minutes"
max_value = "1MB"
"##,
        r##"
error: `5 minutes` is no duration
 --> weir.toml:2:7
  |
2 | ttl = "5 minutes"
  |       ^^^^^^^^^^^
  |
  = help: write "5m"

error: `1MB` is no size
 --> weir.toml:3:13
  |
3 | max_value = "1MB"
  |             ^^^^^
  |
  = help: write "1MiB"
"##,
    );
}

#[test]
fn a_number_without_unit_is_no_duration_and_no_size() {
    refused(
        r##"[defaults]
ttl = 300
max_value = 4096
"##,
        r##"
error: a duration needs a unit
 --> weir.toml:2:7
  |
2 | ttl = 300
  |       ^^^
  |
  = help: write "300s" for seconds, "300ms" for milliseconds

error: a size needs a unit
 --> weir.toml:3:13
  |
3 | max_value = 4096
  |             ^^^^
  |
  = help: write "4KiB"
"##,
    );
}

#[test]
fn a_share_without_percent_is_no_share() {
    refused(
        r##"[defaults]
jitter = 0.1
"##,
        r##"
error: a share needs its %
 --> weir.toml:2:10
  |
2 | jitter = 0.1
  |          ^^^
  |
  = help: write "10%"
"##,
    );
}

#[test]
fn a_share_in_words_is_no_share() {
    refused(
        r##"[defaults]
jitter = "10"
"##,
        r##"
error: `10` is no share
 --> weir.toml:2:10
  |
2 | jitter = "10"
  |          ^^^^
  |
  = help: write "10%"
"##,
    );
}

#[test]
fn a_jitter_of_everything_is_refused() {
    refused(
        r##"[defaults]
jitter = "100%"
"##,
        r##"
error: a jitter of 100% may leave no TTL at all
 --> weir.toml:2:10
  |
2 | jitter = "100%"
  |          ^^^^^^
  |
  = help: write a share below "100%", as in "10%"
"##,
    );
}

#[test]
fn a_choice_names_the_others() {
    refused(
        r##"[defaults]
value = "xml"
rows = "two"
on_modify = 1
"##,
        r##"
error: `xml` is none of the choices
 --> weir.toml:2:9
  |
2 | value = "xml"
  |         ^^^^^
  |
  = help: write one of "json", "msgpack", "hash", "text"

error: `two` is none of the choices
 --> weir.toml:3:8
  |
3 | rows = "two"
  |        ^^^^^
  |
  = help: write one of "one", "many"

error: expected a string, found an integer
 --> weir.toml:4:13
  |
4 | on_modify = 1
  |             ^
  |
  = help: write one of "load", "pass", "reject"
"##,
    );
}

#[test]
fn an_unknown_database_lists_the_known() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[database.stock]
url = "sqlite:stock.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
database = "stok"
"##,
        r##"
error: there is no [database.stok]
 --> weir.toml:8:12
  |
8 | database = "stok"
  |            ^^^^^^
  |
  = help: did you mean "stock"? known: main, stock
"##,
    );
}

#[test]
fn a_route_says_which_of_two_databases() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[database.stock]
url = "sqlite:stock.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
"##,
        r##"
error: this route does not say which database
 --> weir.toml:5:1
  |
5 | [[route]]
  | ^^^^^^^^^
  |
  = help: write `database`; known: main, stock
"##,
    );
}

#[test]
fn a_route_needs_a_database() {
    refused(
        r##"[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
"##,
        r##"
error: this route has no database to load from
 --> weir.toml:1:1
  |
1 | [[route]]
  | ^^^^^^^^^
  |
  = help: add [database.main] with a `url`
"##,
    );
}

#[test]
fn a_route_needs_key_and_load() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
name = "product"
"##,
        r##"
error: this route has no `key`
 --> weir.toml:3:1
  |
3 | [[route]]
  | ^^^^^^^^^
  |
  = help: write the keys it is for, as in `key = "product:{id}"`
"##,
    );
}

#[test]
fn what_is_said_of_a_load_needs_one() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[defaults]
max_value = "1KiB"
[[route]]
key = "report:{*rest}"
ttl = "15m"
database = "main"
negative_ttl = "5s"
on_modify = "load"
tags = ["reports", "report:{rest}", "of:{owner}"]
"##,
        r##"
error: `database` is said of a `load`, and this route has none
 --> weir.toml:8:12
  |
8 | database = "main"
  |            ^^^^^^
  |
  = help: write `load = "SELECT … WHERE id = :id"`, or remove this: without `load` the applications fill these keys themselves

error: `negative_ttl` is said of a `load`, and this route has none
 --> weir.toml:9:16
  |
9 | negative_ttl = "5s"
  |                ^^^^
  |
  = help: write `load = "SELECT … WHERE id = :id"`, or remove this: without `load` the applications fill these keys themselves

error: `on_modify` is said of a `load`, and this route has none
  --> weir.toml:10:13
   |
10 | on_modify = "load"
   |             ^^^^^^
   |
   = help: write `load = "SELECT … WHERE id = :id"`, or remove this: without `load` the applications fill these keys themselves

error: `{owner}` is no part of the key, and without `load` there are no columns
  --> weir.toml:11:37
   |
11 | tags = ["reports", "report:{rest}", "of:{owner}"]
   |                                     ^^^^^^^^^^^^
   |
   = help: write tags of the key's parts for this route, or `tags = []`
"##,
    );
}

#[test]
fn who_loads_waits_for_no_client() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[defaults]
wait_for_fill = "2m"
[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
wait_for_fill = "500ms"
[[route]]
key = "report:{id}"
wait_for_fill = "soon"
"##,
        r##"
error: "2m" is too large
 --> weir.toml:4:17
  |
4 | wait_for_fill = "2m"
  |                 ^^^^
  |
  = help: write a value from "0s" to "1m"

error: `wait_for_fill` is for routes without `load`: what has one, Weir fills itself
 --> weir.toml:8:17
  |
8 | wait_for_fill = "500ms"
  |                 ^^^^^^^
  |
  = help: remove it: whoever reads an absent key waits for its one load already, up to `load_timeout`

error: `soon` is no duration
  --> weir.toml:11:17
   |
11 | wait_for_fill = "soon"
   |                 ^^^^^^
   |
   = help: write a whole number and one of ms, s, m, h, d, as in "5m"
"##,
    );
}

#[test]
fn a_parameter_that_the_pattern_lacks_is_shown_in_the_statement() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT 1 FROM a WHERE id = :key AND x = :id AND y = :key"
"##,
        r##"
error: `:key` is no part of the key `product:{id}`
 --> weir.toml:5:36
  |
5 | load = "SELECT 1 FROM a WHERE id = :key AND x = :id AND y = :key"
  |                                    ^^^^
  |
  = help: the key's only part is :id
"##,
    );
}

#[test]
fn a_misspelt_parameter_names_the_nearest() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{owner}:{id}"
load = "SELECT 1 FROM a WHERE b = :ower"
"##,
        r##"
error: `:ower` is no part of the key `a:{owner}:{id}`
 --> weir.toml:5:35
  |
5 | load = "SELECT 1 FROM a WHERE b = :ower"
  |                                   ^^^^^
  |
  = help: did you mean `:owner`? the key's parts are :owner, :id
"##,
    );
}

#[test]
fn a_parameter_of_a_key_without_parts_is_refused() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product"
load = "SELECT :id"
"##,
        r##"
error: `:id` is no part of the key `product`
 --> weir.toml:5:16
  |
5 | load = "SELECT :id"
  |                ^^^
  |
  = help: the key has no parts; write one, as in "product:{id}"
"##,
    );
}

#[test]
fn two_statements_are_refused_in_a_text_of_many_lines() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{id}"
load = """
SELECT name
FROM products; DELETE FROM products
"""
"##,
        r##"
error: more than one statement
 --> weir.toml:7:14
  |
7 | FROM products; DELETE FROM products
  |              ^
  |
  = help: write one statement, and nothing after its `;`
"##,
    );
}

#[test]
fn a_statement_that_does_not_end_is_refused() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT 'a"
"##,
        r##"
error: this quote does not end
 --> weir.toml:5:16
  |
5 | load = "SELECT 'a"
  |                ^
  |
  = help: close it with `'`
"##,
    );
}

#[test]
fn two_parts_of_one_name_are_refused() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{id}:{id}"
load = "SELECT name FROM products WHERE id = :id"
"##,
        r##"
error: `id` stands in the pattern twice
 --> weir.toml:4:15
  |
4 | key = "a:{id}:{id}"
  |               ^^^^
  |
  = help: give one of them another name
"##,
    );
}

#[test]
fn parts_with_nothing_between_are_refused() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{id}{x}"
load = "SELECT name FROM products WHERE id = :id"
"##,
        r##"
error: nothing stands between `{id}` and `{x}`
 --> weir.toml:4:14
  |
4 | key = "a:{id}{x}"
  |              ^^^
  |
  = help: write something between them, as in "{id}:{x}"
"##,
    );
}

#[test]
fn the_rest_comes_last() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{*id}:x"
load = "SELECT name FROM products WHERE id = :id"
"##,
        r##"
error: `{*id}` is not the last part
 --> weir.toml:4:15
  |
4 | key = "a:{*id}:x"
  |               ^^
  |
  = help: nothing can follow it: it matches all the rest
"##,
    );
}

#[test]
fn a_brace_is_closed() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{id"
load = "SELECT name FROM products WHERE id = :id"
"##,
        r##"
error: this brace is not closed
 --> weir.toml:4:10
  |
4 | key = "a:{id"
  |          ^
  |
  = help: write a part as "{id}"
"##,
    );
}

#[test]
fn a_pattern_does_not_match_everything() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "{id}"
load = "SELECT name FROM products WHERE id = :id"
"##,
        r##"
error: the pattern does not begin with a literal
 --> weir.toml:4:8
  |
4 | key = "{id}"
  |        ^^^^
  |
  = help: begin it with one, as in "product:{id}"
"##,
    );
}

#[test]
fn two_routes_of_one_name_are_refused() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{id}"
load = "SELECT name FROM products WHERE id = :id"
name = "x"
[[route]]
key = "b:{id}"
load = "SELECT name FROM products WHERE id = :id"
name = "x"
"##,
        r##"
error: there are two routes `x`
  --> weir.toml:10:8
   |
 6 | name = "x"
   |        --- the first one
...
10 | name = "x"
   |        ^^^
   |
   = help: give it another name: metrics tell routes apart by it
"##,
    );
}

#[test]
fn two_routes_of_one_head_are_refused_without_names() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{id}"
load = "SELECT name FROM products WHERE id = :id"
[[route]]
key = "a:{id}:b"
load = "SELECT name FROM products WHERE id = :id"
"##,
        r##"
error: there are two routes `a`
 --> weir.toml:7:7
  |
4 | key = "a:{id}"
  |       -------- the first one
...
7 | key = "a:{id}:b"
  |       ^^^^^^^^^^
  |
  = help: a route without `name` is called after its key's literal head: give it a `name` of its own
"##,
    );
}

#[test]
fn a_name_of_a_route_is_plain() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
name = "my products"
"##,
        r##"
error: "my products" is no name of a route
 --> weir.toml:6:8
  |
6 | name = "my products"
  |        ^^^^^^^^^^^^^
  |
  = help: write 1 to 64 of letters, digits, `_`, `-`, `.` and `:`
"##,
    );
}

#[test]
fn a_name_that_comes_from_the_key_is_plain_too() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "my key:{id}"
load = "SELECT 1"
"##,
        r##"
error: "my key", what the key begins with, is no name of a route
 --> weir.toml:4:7
  |
4 | key = "my key:{id}"
  |       ^^^^^^^^^^^^^
  |
  = help: add a `name` of letters, digits, `_`, `-`, `.` and `:` to the route
"##,
    );
}

#[test]
fn a_shadowed_route_is_refused() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{*id}"
load = "SELECT name FROM products WHERE id = :id"
[[route]]
key = "a:b:{id}"
load = "SELECT name FROM products WHERE id = :id"
name = "b"
"##,
        r##"
error: no key reaches this route: `a:{*id}` matches them all
 --> weir.toml:7:7
  |
4 | key = "a:{*id}"
  |       --------- matches first
...
7 | key = "a:b:{id}"
  |       ^^^^^^^^^^
  |
  = help: put it before the other: the first route that matches wins
"##,
    );
}

#[test]
fn the_same_pattern_twice_is_refused() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "a:{id}"
load = "SELECT name FROM products WHERE id = :id"
[[route]]
key = "a:{key}"
load = "SELECT :key"
name = "b"
"##,
        r##"
error: no key reaches this route: `a:{id}` matches them all
 --> weir.toml:7:7
  |
4 | key = "a:{id}"
  |       -------- matches first
...
7 | key = "a:{key}"
  |       ^^^^^^^^^
  |
  = help: remove one of the two: they match the same keys
"##,
    );
}

#[test]
fn one_row_values_do_not_go_with_many_rows() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
rows = "many"
value = "hash"
[[route]]
key = "b:{id}"
load = "SELECT :id"
rows = "many"
value = "text"
"##,
        r##"
error: value = "hash" holds one row, and rows = "many"
 --> weir.toml:6:8
  |
6 | rows = "many"
  |        ^^^^^^
7 | value = "hash"
  |         ------ one row
  |
  = help: write value = "json" or "msgpack", or rows = "one"

error: value = "text" holds one row, and rows = "many"
  --> weir.toml:11:8
   |
11 | rows = "many"
   |        ^^^^^^
12 | value = "text"
   |         ------ one row
   |
   = help: write value = "json" or "msgpack", or rows = "one"
"##,
    );
}

#[test]
fn a_load_ends_before_the_databases_timeout() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
load_timeout = "5s"
"##,
        r##"
error: 5s is longer than the timeout of [database.main], 2s
 --> weir.toml:6:16
  |
6 | load_timeout = "5s"
  |                ^^^^
  |
  = help: write "2s" at most, or raise `timeout` in [database.main]
"##,
    );
}

#[test]
fn a_default_load_timeout_is_held_against_each_database() {
    refused(
        r##"[defaults]
load_timeout = "5s"
[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT name FROM products WHERE id = :id"
[[route]]
key = "b:{id}"
load = "SELECT :id"
"##,
        r##"
error: 5s is longer than the timeout of [database.main], 2s
 --> weir.toml:2:16
  |
2 | load_timeout = "5s"
  |                ^^^^
  |
  = help: write "2s" at most, or raise `timeout` in [database.main]
"##,
    );
}

#[test]
fn times_of_zero_are_refused() {
    refused(
        r##"[upstream]
url = "redis://h"
timeout = "0s"
[database.main]
url = "sqlite:x"
timeout = "0s"
[defaults]
ttl = "0s"
load_timeout = "0s"
"##,
        r##"
error: "0s" is too small
 --> weir.toml:3:11
  |
3 | timeout = "0s"
  |           ^^^^
  |
  = help: write a value from "1ms" to "1m"

error: "0s" is too small
 --> weir.toml:6:11
  |
6 | timeout = "0s"
  |           ^^^^
  |
  = help: write a value from "1ms" to "1h"

error: "0s" is too small
 --> weir.toml:8:7
  |
8 | ttl = "0s"
  |       ^^^^
  |
  = help: write a value from "1ms" to "365d"

error: "0s" is too small
 --> weir.toml:9:16
  |
9 | load_timeout = "0s"
  |                ^^^^
  |
  = help: write a value from "1ms" to "1h"
"##,
    );
}

#[test]
fn a_pool_of_none_is_refused() {
    refused(
        r##"[database.main]
url = "sqlite:shop.sqlite"
pool = 0
"##,
        r##"
error: 0 is too small
 --> weir.toml:3:8
  |
3 | pool = 0
  |        ^
  |
  = help: write a value from 1 to 1024
"##,
    );
}

#[test]
fn a_bad_listen_address_says_what_is_missing() {
    refused(
        r##"[server]
listen = ["localhost", "127.0.0.1", ":6380", "redis.local:6380"]
admin = "[::1]"
"##,
        r##"
error: `localhost` is no address to listen on
 --> weir.toml:2:11
  |
2 | listen = ["localhost", "127.0.0.1", ":6380", "redis.local:6380"]
  |           ^^^^^^^^^^^
  |
  = help: write an IP address and a port, as in "127.0.0.1:6380" or "[::1]:6380"

error: `127.0.0.1` is no address to listen on
 --> weir.toml:2:24
  |
2 | listen = ["localhost", "127.0.0.1", ":6380", "redis.local:6380"]
  |                        ^^^^^^^^^^^
  |
  = help: add the port, as in "127.0.0.1:6380"

error: `:6380` is no address to listen on
 --> weir.toml:2:37
  |
2 | listen = ["localhost", "127.0.0.1", ":6380", "redis.local:6380"]
  |                                     ^^^^^^^
  |
  = help: add the address, as in "127.0.0.1:6380"

error: `redis.local:6380` is no address to listen on
 --> weir.toml:2:46
  |
2 | listen = ["localhost", "127.0.0.1", ":6380", "redis.local:6380"]
  |                                              ^^^^^^^^^^^^^^^^^^
  |
  = help: write an IP address and a port, as in "127.0.0.1:6380" or "[::1]:6380"

error: `[::1]` is no address to listen on
 --> weir.toml:3:9
  |
3 | admin = "[::1]"
  |         ^^^^^^^
  |
  = help: write an IP address and a port, as in "127.0.0.1:6380" or "[::1]:6380"
"##,
    );
}

#[test]
fn an_address_stands_once() {
    refused(
        r##"[server]
listen = ["127.0.0.1:6380", "localhost:6380"]
admin = "127.0.0.1:6380"
"##,
        r##"
error: 127.0.0.1:6380 stands here twice
 --> weir.toml:2:29
  |
2 | listen = ["127.0.0.1:6380", "localhost:6380"]
  |                             ^^^^^^^^^^^^^^^^
  |
  = help: remove one of them

error: 127.0.0.1:6380 is in `listen` too
 --> weir.toml:3:9
  |
3 | admin = "127.0.0.1:6380"
  |         ^^^^^^^^^^^^^^^^
  |
  = help: write another port
"##,
    );
}

#[test]
fn there_is_somewhere_to_listen() {
    refused(
        r##"[server]
listen = []
"##,
        r##"
error: nowhere to listen
 --> weir.toml:2:10
  |
2 | listen = []
  |          ^^
  |
  = help: write ["127.0.0.1:6380"]
"##,
    );
}

#[test]
fn an_empty_password_is_refused() {
    refused(
        r##"[server]
password = ""
"##,
        r##"
error: an empty password keeps nobody out
 --> weir.toml:2:12
  |
2 | password = ""
  |            ^^
  |
  = help: write "env:WEIR_PASSWORD"
"##,
    );
}

#[test]
fn a_unix_socket_has_a_path_and_tls_no_prefix() {
    refused(
        r##"[server]
listen = ["unix:", "tls:127.0.0.1:6380", "unix:a.sock", "unix:a.sock"]
"##,
        r##"
error: `unix:` names no file
 --> weir.toml:2:11
  |
2 | listen = ["unix:", "tls:127.0.0.1:6380", "unix:a.sock", "unix:a.sock"]
  |           ^^^^^^^
  |
  = help: write the path of a file that weir may make, as in "unix:/run/weir/weir.sock"

error: `tls:` does not stand in front of an address
 --> weir.toml:2:20
  |
2 | listen = ["unix:", "tls:127.0.0.1:6380", "unix:a.sock", "unix:a.sock"]
  |                    ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write the address alone, and `tls = { cert = "…", key = "…" }` in [server]: every address but those with `tcp:` in front then speaks TLS

error: unix:a.sock stands here twice
 --> weir.toml:2:57
  |
2 | listen = ["unix:", "tls:127.0.0.1:6380", "unix:a.sock", "unix:a.sock"]
  |                                                         ^^^^^^^^^^^^^
  |
  = help: remove one of them
"##,
    );
}

#[test]
fn a_path_too_long_for_a_unix_socket_is_refused() {
    let path = "s".repeat(108);
    let errors = config::parse(&format!("[server]\nlisten = [\"unix:{path}\"]\n"), Path::new("weir.toml"), env);
    let errors = errors.expect_err("107 bytes are the most");
    assert_eq!(errors[0].message, format!("{path} is too long for a unix socket"));
    assert_eq!(errors[0].hint, "write a path of at most 107 bytes");
}

#[test]
fn tls_names_the_file_that_is_missing_or_of_another_kind() {
    refused(
        r##"[server]
tls = { key = "absent.key", client_ca = "Cargo.toml" }
"##,
        r##"
error: `tls` has no cert
 --> weir.toml:2:7
  |
2 | tls = { key = "absent.key", client_ca = "Cargo.toml" }
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: write `tls = { cert = "weir.crt", key = "weir.key" }`, two files in PEM

error: cannot read absent.key: no such file or directory
 --> weir.toml:2:15
  |
2 | tls = { key = "absent.key", client_ca = "Cargo.toml" }
  |               ^^^^^^^^^^^^
  |
  = help: write the path of a readable file that holds the private key, relative to this one

error: Cargo.toml holds no certificate in PEM
 --> weir.toml:2:41
  |
2 | tls = { key = "absent.key", client_ca = "Cargo.toml" }
  |                                         ^^^^^^^^^^^^
  |
  = help: write the path of a readable file that holds the certificate, relative to this one
"##,
    );
}

#[test]
fn a_time_limit_for_clients_is_no_less_than_a_network_needs() {
    refused(
        r##"[limits]
auth_timeout = "0s"
idle_timeout = "31d"
"##,
        r##"
error: "0s" is too small
 --> weir.toml:2:16
  |
2 | auth_timeout = "0s"
  |                ^^^^
  |
  = help: write a value from "100ms" to "30d"

error: "31d" is too large
 --> weir.toml:3:16
  |
3 | idle_timeout = "31d"
  |                ^^^^^
  |
  = help: write a value from "0s" to "30d"
"##,
    );
}

#[test]
fn another_scheme_is_no_redis_and_its_password_is_not_shown() {
    refused(
        r##"[upstream]
url = "valkeys://app:sec/ret@cache:6379"
"##,
        r##"
error: `valkeys://` is no Redis
 --> weir.toml:2:7
  |
2 | url = "valkeys://app:*******@cache:6379"
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: write "rediss://" in its place
"##,
    );
}

#[test]
fn certificates_want_tls_and_sentinels_passwords_want_sentinels() {
    refused(
        r##"[upstream]
url = "redis://cache"
tls = { server_name = "cache" }
sentinel_user = "app"
sentinel_password = "secret"
"##,
        r##"
error: the url asks for no TLS
 --> weir.toml:3:7
  |
3 | tls = { server_name = "cache" }
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: write "rediss://…" in the url, or remove it

error: the url names no sentinels
 --> weir.toml:4:17
  |
4 | sentinel_user = "app"
  |                 ^^^^^
  |
  = help: remove it, or write "redis-sentinel://…"

error: the url names no sentinels
 --> weir.toml:5:21
  |
5 | sentinel_password = "******"
  |                     ^^^^^^^^
  |
  = help: remove it, or write "redis-sentinel://…"
"##,
    );
}

#[test]
fn an_unknown_key_of_tls_names_all() {
    refused(
        r##"[upstream]
url = "rediss://cache"
[upstream.tls]
servername = "cache"
"##,
        r##"
error: unknown key `servername` in [upstream.tls]
 --> weir.toml:4:1
  |
4 | servername = "cache"
  | ^^^^^^^^^^
  |
  = help: did you mean `server_name`? accepted here: ca, cert, key, server_name
"##,
    );
    refused(
        r##"[upstream]
url = "rediss://cache"
tls = true
"##,
        r##"
error: `tls` is a section
 --> weir.toml:3:1
  |
3 | tls = true
  | ^^^
  |
  = help: write `[upstream.tls]` above its keys
"##,
    );
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    refused(
        r##"[upstream]
url = "rediss://cache"
tls = { ca = "weir.toml", cert = "cert.pem", server_name = "cache:6379" }
"##,
        r##"
error: cannot read weir.toml: no such file or directory
 --> weir.toml:3:14
  |
3 | tls = { ca = "weir.toml", cert = "cert.pem", server_name = "cache:6379" }
  |              ^^^^^^^^^^^
  |
  = help: write the path of a readable PEM file, relative to this one

error: no certificate can be made out to this name
 --> weir.toml:3:60
  |
3 | tls = { ca = "weir.toml", cert = "cert.pem", server_name = "cache:6379" }
  |                                                            ^^^^^^^^^^^^
  |
  = help: write a host name or an IP address, without a port
"##,
    );
}

/// The errors of a file in a folder that holds these certificates, each as message and hint.
fn refused_beside_certificates(toml: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("temporary folder");
    for name in ["one", "other"] {
        let made = rcgen::generate_simple_self_signed(vec!["cache".into()]).expect("a certificate");
        write(&format!("{name}.pem"), &made.cert.pem());
        write(&format!("{name}.key"), &made.signing_key.serialize_pem());
    }
    write("empty.pem", "");
    write("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let errors = match config::parse(toml, &folder.path().join("weir.toml"), env) {
        Ok(_) => Vec::new(),
        Err(errors) => errors,
    };
    let shown = |text: String| text.replace(&*folder.path().to_string_lossy(), "FOLDER");
    errors.into_iter().map(|error| (shown(error.message), shown(error.hint))).collect()
}

#[test]
fn certificates_are_read_with_the_file() {
    let cases = [
        ("ca = 'one.pem', cert = 'one.pem', key = 'one.key', server_name = 'x'", "", ""),
        (
            "ca = 'empty.pem'",
            "no certificate in FOLDER/empty.pem",
            "write the path of a PEM file that holds a certificate",
        ),
        ("ca = 'one.pem', cert = 'one.pem'", "a certificate without its key", "add `key = \"PATH\"`"),
        ("ca = 'one.pem', key = 'one.key'", "a key without its certificate", "add `cert = \"PATH\"`"),
        (
            "ca = 'one.pem', cert = 'one.pem', key = 'other.pem'",
            "no private key in FOLDER/other.pem",
            "write the path of a PEM file that holds a private key",
        ),
        (
            "ca = 'one.pem', cert = 'one.pem', key = 'other.key'",
            "the key does not go with the certificate: keys may not be consistent: KeyMismatch",
            "write the key that the certificate was made for, unencrypted",
        ),
    ];
    for (tls, message, hint) in cases {
        let errors = refused_beside_certificates(&format!("[upstream]\nurl = 'rediss://cache'\ntls = {{ {tls} }}\n"));
        match message {
            "" => assert_eq!(errors, []),
            _ => assert_eq!(errors, [(message.to_owned(), hint.to_owned())], "{tls}"),
        }
    }
    let errors = refused_beside_certificates("[upstream]\nurl = 'rediss://cache'\ntls = { ca = 'broken.pem' }\n");
    assert!(errors[0].0.starts_with("FOLDER/broken.pem is no PEM file: "), "{errors:?}");
    assert_eq!(errors[0].1, "write the path of a certificate as PEM");
}

#[test]
fn only_a_cluster_has_replicas_to_read_from() {
    refused(
        r##"[upstream]
url = "redis://a"
read_from = "replica"
"##,
        r##"
error: the url names no cluster, so there are no replicas to read from
 --> weir.toml:3:13
  |
3 | read_from = "replica"
  |             ^^^^^^^^^
  |
  = help: remove it, or write "redis-cluster://…"
"##,
    );
}

#[test]
fn an_upstream_has_a_url() {
    refused(
        r##"[upstream]
timeout = "1s"
"##,
        r##"
error: [upstream] has no url
 --> weir.toml:1:1
  |
1 | [upstream]
  | ^^^^^^^^^^
  |
  = help: write `url = "redis://127.0.0.1:6379/0"`, or leave [upstream] out for the embedded store
"##,
    );
}

#[test]
fn mysql_comes_later() {
    refused(
        r##"[database.main]
url = "mysql://app@h/shop"
"##,
        r##"
error: `mysql:` is not supported by this version
 --> weir.toml:2:7
  |
2 | url = "mysql://app@h/shop"
  |       ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write "postgres://user@host/name" or "sqlite:shop.sqlite"
"##,
    );
}

#[test]
fn a_database_has_a_url() {
    refused(
        r##"[database.main]
pool = 2
"##,
        r##"
error: [database.main] has no url
 --> weir.toml:1:1
  |
1 | [database.main]
  | ^^^^^^^^^^^^^^^
  |
  = help: write `url = "postgres://user@host/name"` or `url = "sqlite:shop.sqlite"`
"##,
    );
}

#[test]
fn an_unset_variable_is_named() {
    refused(
        r##"[server]
password = "env:UNSET"
[database.main]
url = "env:UNSET"
"##,
        r##"
error: the environment variable UNSET is not set
 --> weir.toml:2:12
  |
2 | password = "env:UNSET"
  |            ^^^^^^^^^^^
  |
  = help: set UNSET before starting weir

error: the environment variable UNSET is not set
 --> weir.toml:4:7
  |
4 | url = "env:UNSET"
  |       ^^^^^^^^^^^
  |
  = help: set UNSET before starting weir
"##,
    );
}

#[test]
fn an_empty_variable_is_named() {
    refused(
        r##"[server]
password = "env:EMPTY"
"##,
        r##"
error: the environment variable EMPTY is empty
 --> weir.toml:2:12
  |
2 | password = "env:EMPTY"
  |            ^^^^^^^^^^^
  |
  = help: set EMPTY before starting weir
"##,
    );
}

#[test]
fn a_url_from_the_environment_is_not_shown() {
    refused(
        r##"[database.main]
url = "env:MYSQL_URL"
"##,
        r##"
error: `mysql:` is not supported by this version
 --> weir.toml:2:7
  |
2 | url = "env:MYSQL_URL"
  |       ^^^^^^^^^^^^^^^
  |
  = help: write "postgres://user@host/name" or "sqlite:shop.sqlite"
"##,
    );
}

#[test]
fn an_unreadable_secret_is_named() {
    refused(
        r##"[server]
password = "file:no/such/file"
"##,
        r##"
error: cannot read no/such/file: no such file or directory
 --> weir.toml:2:12
  |
2 | password = "file:no/such/file"
  |            ^^^^^^^^^^^^^^^^^^^
  |
  = help: write the path of a readable file, relative to this one
"##,
    );
}

#[test]
fn bounds_name_themselves() {
    refused(
        r##"[server]
max_clients = 0
[embedded]
max_memory = "1KiB"
[limits]
max_command = "1GiB"
max_arguments = 1
max_inline = "1GiB"
max_negative = -1
max_near = "1KiB"
max_waiting_loads = 0
[defaults]
near = "2h"
"##,
        r##"
error: 0 is too small
 --> weir.toml:2:15
  |
2 | max_clients = 0
  |               ^
  |
  = help: write a value from 1 to 1000000

error: "1KiB" is too small
 --> weir.toml:4:14
  |
4 | max_memory = "1KiB"
  |              ^^^^^^
  |
  = help: write a value from "1MiB" to "1024GiB"

error: "1GiB" is too large
 --> weir.toml:6:15
  |
6 | max_command = "1GiB"
  |               ^^^^^^
  |
  = help: write a value from "1KiB" to "512MiB"

error: 1 is too small
 --> weir.toml:7:17
  |
7 | max_arguments = 1
  |                 ^
  |
  = help: write a value from 16 to 1048576

error: "1GiB" is too large
 --> weir.toml:8:14
  |
8 | max_inline = "1GiB"
  |              ^^^^^^
  |
  = help: write a value from "1KiB" to "512MiB"

error: a number of things is never negative
 --> weir.toml:9:16
  |
9 | max_negative = -1
  |                ^^
  |
  = help: write 0 or more

error: "1KiB" is too small
  --> weir.toml:10:12
   |
10 | max_near = "1KiB"
   |            ^^^^^^
   |
   = help: write a value from "64KiB" to "1024GiB"

error: 0 is too small
  --> weir.toml:11:21
   |
11 | max_waiting_loads = 0
   |                     ^
   |
   = help: write a value from 1 to 1000000

error: "2h" is too large
  --> weir.toml:13:8
   |
13 | near = "2h"
   |        ^^^^
   |
   = help: write a value from "0s" to "1h"
"##,
    );
}

#[test]
fn unquoted_text_is_no_toml() {
    refused(
        r##"[defaults]
ttl = 5m
"##,
        r##"
error: string values must be quoted
 --> weir.toml:2:7
  |
2 | ttl = 5m
  |       ^^
  |
  = help: strings stand in quotes, as in ttl = "5m"; sections in brackets, as in [server]
"##,
    );
}

#[test]
fn an_open_bracket_is_shown_on_its_line() {
    refused(
        r##"[server
workers = 2
"##,
        r##"
error: unclosed table, expected `]`
 --> weir.toml:1:7
  |
1 | [server
  |       ^
  |
  = help: strings stand in quotes, as in ttl = "5m"; sections in brackets, as in [server]
"##,
    );
}

#[test]
fn a_missing_value_is_shown() {
    refused(
        r##"[server]
workers =
"##,
        r##"
error: string values must be quoted
 --> weir.toml:2:9
  |
2 | workers =
  |         ^
  |
  = help: strings stand in quotes, as in ttl = "5m"; sections in brackets, as in [server]
"##,
    );
}

#[test]
fn a_key_stands_once() {
    refused(
        r##"[server]
workers = 1
workers = 2
"##,
        r##"
error: duplicate key
 --> weir.toml:3:1
  |
3 | workers = 2
  | ^^^^^^^
  |
  = help: remove one of the two
"##,
    );
}

#[test]
fn several_syntax_errors_are_told_at_once() {
    refused(
        r##"[server]
workers = two
[embedded
"##,
        r##"
error: invalid boolean, expected `true`
 --> weir.toml:2:11
  |
2 | workers = two
  |           ^^^
  |
  = help: strings stand in quotes, as in ttl = "5m"; sections in brackets, as in [server]

error: unclosed table, expected `]`
 --> weir.toml:3:9
  |
3 | [embedded
  |         ^
  |
  = help: strings stand in quotes, as in ttl = "5m"; sections in brackets, as in [server]
"##,
    );
}

#[test]
fn all_errors_are_told_in_the_order_of_the_file() {
    refused(
        r##"[limits]
max_pipelin = 5
[server]
workers = "two"
max_clients = 0
[database.main]
url = "sqlite:shop.sqlite"
[[route]]
key = "product:{id}"
load = "SELECT :x"
ttl = "1 h"
compress = "zstd"
"##,
        r##"
error: unknown key `max_pipelin` in [limits]
 --> weir.toml:2:1
  |
2 | max_pipelin = 5
  | ^^^^^^^^^^^
  |
  = help: did you mean `max_pipeline`? accepted here: max_command, max_arguments, max_inline, max_command_before_auth, max_output, max_output_total, max_query_total, max_subscriber_output, max_private_links, max_pipeline, max_negative, max_tags, max_near, max_fill_waiters, max_missed_invalidations, max_waiting_loads, auth_timeout, command_timeout, idle_timeout, write_timeout

error: expected a whole number, found a string
 --> weir.toml:4:11
  |
4 | workers = "two"
  |           ^^^^^
  |
  = help: write it without quotes, as in 16

error: 0 is too small
 --> weir.toml:5:15
  |
5 | max_clients = 0
  |               ^
  |
  = help: write a value from 1 to 1000000

error: `:x` is no part of the key `product:{id}`
  --> weir.toml:10:16
   |
10 | load = "SELECT :x"
   |                ^^
   |
   = help: the key's only part is :id

error: `1 h` is no duration
  --> weir.toml:11:7
   |
11 | ttl = "1 h"
   |       ^^^^^
   |
   = help: write "1h"

error: `compress` in [[route]] is not supported by this version
  --> weir.toml:12:1
   |
12 | compress = "zstd"
   | ^^^^^^^^
   |
   = help: remove it
"##,
    );
}

#[test]
fn other_editors_line_ends_and_marks_do_not_move_places() {
    let toml = "\u{feff}[server]\r\nworkers = \"zwölf\" # ü\r\nmax_clients = 0\r\n";
    let expected = r##"
error: expected a whole number, found a string
 --> weir.toml:2:11
  |
2 | workers = "zwölf" # ü
  |           ^^^^^^^
  |
  = help: write it without quotes, as in 16

error: 0 is too small
 --> weir.toml:3:15
  |
3 | max_clients = 0
  |               ^
  |
  = help: write a value from 1 to 1000000
"##;
    refused(toml, expected);
}

#[test]
fn an_error_found_later_is_shown_at_its_place() {
    let toml = "[database.main]\nurl = \"sqlite:shop.sqlite\"\n[[route]]\nkey = \"a\"\nload = \"SELECT x\"\n";
    let config = config::parse(toml, Path::new("weir.toml"), env).expect("a valid file");
    let error = config::Diagnostic::at(&config.routes[0].load().expect("it has one").origin, "no such column: x", "");
    let expected = "error: no such column: x\n --> weir.toml:5:8\n  |\n5 | load = \"SELECT x\"\n  |        ^^^^^^^^^^";
    assert_eq!(error.render("weir.toml", toml, false), expected);
    assert_eq!(error.render("weir.toml", "", false), "error: no such column: x\n--> weir.toml");
    assert!(error.render("weir.toml", toml, true).contains("\u{1b}["));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let errors = config::load(Path::new("no/such/file.toml")).expect_err("there is none");
    let expected = "error: cannot read the file: No such file or directory (os error 2)
--> no/such/file.toml
 = help: write the path of a readable TOML file";
    assert_eq!(config::render_all(&errors, "no/such/file.toml", "", false), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The manual with a piece cut out and another text put there: an answer or errors, never a panic.
    #[test]
    fn no_damage_to_a_file_ends_the_process(
        at in 0..MANUAL.len(),
        length in 0_usize..40,
        put in "([\\[\\]{}\"'=.,:;$ü\n\\\\ #5m%]|-1|ttl|env:|route){0,6}",
    ) {
        let boundary = |index: usize| (index..).find(|&index| MANUAL.is_char_boundary(index)).expect("the end is one");
        let (from, to) = (boundary(at), boundary((at + length).min(MANUAL.len())));
        let toml = [&MANUAL[..from], &put, &MANUAL[to..]].concat();
        if let Err(errors) = config::parse(&toml, Path::new("weir.toml"), env) {
            prop_assert!(!errors.is_empty());
            prop_assert!(config::render_all(&errors, "weir.toml", &toml, false).starts_with("error: "));
        }
    }
}

/// All errors of `toml` as one text.
fn told(toml: &str) -> String {
    let errors = config::parse(toml, Path::new("weir.toml"), env).expect_err("the file should be refused");
    config::render_all(&errors, "weir.toml", toml, false)
}

#[test]
fn tags_that_cannot_be_made_are_told_one_by_one() {
    let toml = r#"
[database.main]
url = "sqlite:shop.db"
[[route]]
key = "product:{id}"
load = "SELECT 1 WHERE :id = 1"
tags = ["all", "c:{category", "p}", "x{}y", "", "all", 5]
[limits]
max_tags = 0
"#;
    let errors = told(toml);
    for expected in ["expected a string, found an integer", "0 is too small"] {
        assert!(errors.contains(expected), "{expected}\n{errors}");
    }
    let errors = told(&toml.replace(", 5]", "]"));
    for expected in [
        "this brace is not closed",
        "this brace was not opened",
        "nothing stands in these braces",
        "an empty tag",
        "the tag \"all\" stands here twice",
    ] {
        assert!(errors.contains(expected), "{expected}\n{errors}");
    }
}

#[test]
fn how_a_value_is_refreshed_is_said_in_numbers_that_mean_something() {
    let toml = r#"
[database.main]
url = "sqlite:shop.db"
[[route]]
key = "product:{id}"
load = "SELECT 1 WHERE :id = 1"
grace = 600
early_refresh = "1"
[[route]]
key = "user:{id}"
load = "SELECT 1 WHERE :id = 1"
early_refresh = 11.0
[[route]]
key = "page:{id}"
grace = "1m"
sliding = "yes"
"#;
    let errors = told(toml);
    for expected in [
        "write it without quotes, as in 1.0",
        "11.0 is too large",
        "`grace` is said of a `load`, and this route has none",
        "write true or false",
    ] {
        assert!(errors.contains(expected), "{expected}\n{errors}");
    }
}

#[test]
fn a_route_has_no_more_tags_than_a_key_may_have() {
    let toml = r#"
[upstream]
url = "redis://127.0.0.1:6379/0"
[invalidation]
channel = "weir:{lease}ended"
[limits]
max_tags = 1
[[route]]
key = "page:{id}"
tags = ["pages", "page-{id}"]
[[route]]
key = "user:{id}"
tags = ["users"]
"#;
    let errors = told(toml);
    for expected in [
        "this route has 2 tags, and `max_tags` allows 1: nothing of it could be kept",
        "write fewer tags, or set max_tags = 2 in [limits], or more",
        "'weir:{' begins the names of Weir's own channels",
    ] {
        assert!(errors.contains(expected), "{expected}\n{errors}");
    }
}

#[test]
fn how_often_is_checked_is_a_number_of_hits() {
    let toml = r#"
[database.main]
url = "sqlite:shop.db"
[[route]]
key = "product:{id}"
load = "SELECT 1 WHERE :id = 1"
check_hits = "1%"
check_invalidations = -1
[[route]]
key = "user:{id}"
load = "SELECT 1 WHERE :id = 1"
check_hits = 2000000000
[[route]]
key = "page:{id}"
check_hits = 1000
check_invalidations = 100
"#;
    let errors = told(toml);
    for expected in [
        "expected a whole number, found a string",
        "-1 is not from 0 to 1000000000",
        "write the number of which one is taken, as in 1000; 0 for none",
        "`check_hits` is said of a `load`, and this route has none",
        "`check_invalidations` is said of a `load`, and this route has none",
        "2000000000 is not from 0 to 1000000000",
    ] {
        assert!(errors.contains(expected), "{expected}\n{errors}");
    }
}
