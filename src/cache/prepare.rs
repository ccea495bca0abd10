//! From the configuration to routes: connects the databases and prepares every statement on them.

use super::gate::Gate;
use super::route::{Load, Loading, Route, Routes, Warm};
use crate::config::{self, Config, Diagnostic, Encoding, Origin, Rows};
use crate::database::{Database, DatabaseError, LoadSpec};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Prepares every route, or tells all that is wrong, each at its place in the file.
pub async fn prepare(config: &Config) -> Result<Routes, Vec<Diagnostic>> {
    let mut databases = BTreeMap::new();
    let mut wrong = Vec::new();
    let connected = join_all(config.databases.values().map(Database::connect)).await;
    for (settings, connected) in config.databases.values().zip(connected) {
        match connected {
            Ok(database) => {
                let gate = Gate::new(&settings.name, settings.pool, config.limits.max_waiting_loads);
                databases.insert(settings.name.as_str(), (database, gate));
            }
            Err(error) => wrong.push(of_database(settings, &error)),
        }
    }
    let mut routes = Vec::new();
    for route in &config.routes {
        let Some(load) = route.load() else {
            routes.push(Arc::new(Route::of_clients(route.clone())));
            continue;
        };
        let Some((database, gate)) = databases.get(load.database.as_str()) else { continue };
        let settings = &config.databases[&load.database];
        let warm = match prepare_warm(database, route, load, settings).await {
            Ok(warm) => warm,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        match database.prepare(Load::spec(route, load)).await {
            Ok(statement) => {
                let loading = Loading::new(route.clone(), load.clone(), statement, warm, gate.clone());
                routes.push(loading.route().clone());
            }
            Err(error) => wrong.push(of_statement(route, &load.origin, settings, &error)),
        }
    }
    if wrong.is_empty() { Ok(Routes::new(routes)) } else { Err(wrong) }
}

async fn prepare_warm(
    database: &Database,
    route: &config::Route,
    load: &config::Load,
    settings: &config::Database,
) -> Result<Option<Warm>, Diagnostic> {
    let Some(warm) = &load.warm else { return Ok(None) };
    let names: Vec<String> = route.key.names().map(str::to_owned).collect();
    let hint = format!("its columns must be named like the key's parts: {}; name them with AS", names.join(", "));
    let (sql, parameters) = (warm.sql.clone(), Vec::new());
    let spec = LoadSpec { sql, parameters, rows: Rows::Many, encoding: Encoding::Json, tag_columns: names };
    match database.prepare(spec).await {
        // Clients have the rest of the connections.
        Ok(statement) => Ok(Some(Warm { statement, flights: (settings.pool * 3 / 4).max(1) })),
        Err(DatabaseError::Encoding(_)) => {
            let message = format!("route '{}': `warm` does not tell the keys", route.name);
            Err(Diagnostic::at(&warm.origin, message, hint))
        }
        Err(error) => Err(of_statement(route, &warm.origin, settings, &error)),
    }
}

fn of_database(settings: &config::Database, error: &DatabaseError) -> Diagnostic {
    let message = format!("database '{}': {error}", settings.name);
    let hint = match settings.url {
        config::DatabaseUrl::Postgres(_) => "is it running, and may this host and user connect to it?",
        config::DatabaseUrl::Sqlite(_) => {
            "a path is relative to the folder of this file; Weir makes no database of its own here"
        }
    };
    Diagnostic::unreachable(&settings.origin, message, hint)
}

fn of_statement(
    route: &config::Route,
    origin: &Origin,
    settings: &config::Database,
    error: &DatabaseError,
) -> Diagnostic {
    if error.is_transient() {
        return of_database(settings, error);
    }
    let message = format!("route '{}': {error}", route.name);
    let hint = format!("run the statement on database '{}' by hand, with values for its parameters", settings.name);
    Diagnostic::at(origin, message, hint)
}
