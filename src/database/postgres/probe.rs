//! What the live database says of a statement: its parameters' types and its columns.
//!
//! Without named statements (behind PgBouncer in transaction mode) it all happens in one transaction, so that it
//! happens on one server connection; the named statements that it leaves there are removed before the transaction
//! ends. (Not those that a newer PgBouncer has named itself: it keeps count of them.) The client's connection must be
//! closed afterwards, for tokio-postgres remembers on it statements that are no longer there.

use super::failure::{Failure, causes};
use super::parameter::Parameter;
use super::plan::{Column, Naming, Plan, placeholder};
use crate::database::template::Template;
use crate::database::{DatabaseError, LoadSpec};
use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement};

/// As `learn`, and leaves nothing on the server. The connection must not be used again.
pub(super) async fn learn_in_transaction(
    client: &Client,
    spec: &LoadSpec,
    template: &Template,
) -> Result<Plan, Failure> {
    client.batch_execute("BEGIN").await?;
    let row = client.query_typed("SELECT quote_literal(now()::text)", &[]).await?;
    let begun: String =
        row.first().map(|row| row.get(0)).ok_or_else(|| DatabaseError::Unavailable("no time".into()))?;
    let plan = learn(client, spec, template).await;
    // Chained, so that what a failure leaves is removed from that same server connection.
    client.batch_execute("ROLLBACK AND CHAIN").await?;
    forget(client, &begun).await?;
    client.batch_execute("COMMIT").await?;
    plan
}

/// Prepares the statement and the SQL around it, and forgets both.
pub(super) async fn learn(client: &Client, spec: &LoadSpec, template: &Template) -> Result<Plan, Failure> {
    let statement = client.prepare(&template.render(placeholder)).await.map_err(|error| refused(error, template))?;
    let parameters = parameters(client, &statement).await?;
    let columns: Vec<Column> = statement
        .columns()
        .iter()
        .map(|column| Column { name: column.name().to_owned(), kind: column.type_().clone() })
        .collect();
    let mut plan = Plan::new(spec, template, parameters, &columns, Naming::Own)?;
    client.prepare(&plan.single).await.map_err(|error| no_subquery(&error))?;
    if plan.parameters.is_empty() {
        return Ok(plan);
    }
    let refused = match client.prepare(&plan.batch_columns).await {
        Ok(batch) => {
            if !batch.columns().iter().map(|column| column.name()).eq(columns.iter().map(|column| column.name.as_str()))
            {
                plan = Plan::new(spec, template, plan.parameters, &columns, Naming::Given)?;
            }
            client.prepare(&plan.batch).await.err()
        }
        Err(error) => Some(error),
    };
    match refused {
        None => Ok(plan),
        Some(error) => alone(plan, spec, error),
    }
}

/// The plan for a statement that PostgreSQL takes alone, and nowhere else.
fn alone(mut plan: Plan, spec: &LoadSpec, error: Error) -> Result<Plan, Failure> {
    let Some(refusal) = error.as_db_error() else { return Err(error.into()) };
    tracing::warn!(sql = spec.sql, "a batch runs this statement once for each key: {}", refusal.message());
    plan.alone = true;
    Ok(plan)
}

async fn parameters(client: &Client, statement: &Statement) -> Result<Vec<Parameter>, Failure> {
    let oids: Vec<u32> = statement.params().iter().map(Type::oid).collect();
    // -1: a type without a modifier, else a bare `character` would mean character(1).
    let sql = "SELECT format_type(t.oid, -1) FROM unnest($1::oid[]) WITH ORDINALITY AS t(oid, n) ORDER BY t.n";
    let names = client.query_typed(sql, &[(&oids, Type::OID_ARRAY)]).await?;
    let described = |(kind, row): (&Type, &tokio_postgres::Row)| Parameter { kind: kind.clone(), name: row.get(0) };
    Ok(statement.params().iter().zip(&names).map(described).collect())
}

/// Removes the named statements that were made since `begun`, a literal.
async fn forget(client: &Client, begun: &str) -> Result<(), Error> {
    let made = format!(
        "SELECT quote_ident(name) FROM pg_prepared_statements \
         WHERE NOT from_sql AND prepare_time >= {begun}::timestamptz AND name NOT LIKE 'PGBOUNCER%'"
    );
    for message in client.simple_query(&made).await? {
        if let SimpleQueryMessage::Row(row) = message
            && let Some(name) = row.get(0)
        {
            client.batch_execute(&format!("DEALLOCATE {name}")).await?;
        }
    }
    Ok(())
}

/// The server's message, where it points to in the operator's own text, and its hint.
fn refused(error: Error, template: &Template) -> Failure {
    let Some(refusal) = error.as_db_error() else { return error.into() };
    let mut failure = Failure::from_refusal(refusal);
    if let DatabaseError::Statement(message) = &mut failure.error {
        *message =
            format!("{} ({}){}{}", refusal.message(), refusal.code().code(), place(refusal, template), hint(refusal));
    }
    failure
}

fn place(refusal: &DbError, template: &Template) -> String {
    match refusal.position() {
        Some(ErrorPosition::Original(position)) => {
            let offset = usize::try_from(*position).unwrap_or(1).saturating_sub(1);
            format!(" at {}", template.place(offset, placeholder))
        }
        _ => String::new(),
    }
}

fn hint(refusal: &DbError) -> String {
    refusal.hint().map(|hint| format!(": {hint}")).unwrap_or_default()
}

/// The statement itself is fine, but it cannot stand where a load needs it: it writes, for example.
fn no_subquery(error: &Error) -> Failure {
    let message = error.as_db_error().map_or_else(|| causes(error), |refusal| refusal.message().to_owned());
    DatabaseError::Statement(format!("a load must be a SELECT that can be a subquery: {message}")).into()
}
