//! The demo that `weir` runs without a file, as texts that are part of the program.

/// The demo's configuration; its SQLite path is relative to the folder where the shop is made.
pub const TOML: &str = include_str!("../../config/demo.toml");
/// The name of the shop's file, as [`TOML`] has it.
pub const SHOP: &str = "shop.sqlite";
/// What makes the shop, in order: tables, then rows.
pub const SQL: [&str; 2] = [include_str!("../../config/demo/schema.sql"), include_str!("../../config/demo/data.sql")];
/// Kept in the shop's `user_version`. Raise it with every change of [`SQL`]: older shops are then made anew.
pub const SQL_VERSION: i64 = 1;
