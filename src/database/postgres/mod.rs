//! PostgreSQL: the route's statements on pooled connections, every type as PostgreSQL itself writes it.
//!
//! - `plan` says which SQL runs and has the table of types; `probe` learns them from the live database.
//! - Parameters are bound, never spliced, as text in the form that `parameter` checks, so a key part that is no value
//!   of its type costs no query. Of types that only the server knows (inet, domains with checks, …) it decides, and
//!   "invalid input" then means "no such row".
//! - `link` holds the cap on concurrent loads and cancels what nobody waits for.
//! - With `prepare = false` no statement outlives its transaction, as PgBouncer's transaction mode needs it.
//! - A broken connection and a schema that changed below a prepared statement are each met by one more attempt:
//!   a load only reads, so it may run twice. Columns that are added to a table later appear in a `SELECT *` at once as
//!   JSON; as hash and MessagePack once the statement is prepared anew.
//!
//! It does not know how keys look. Held by tests/database_postgres.rs and tests/database_servers.rs.

mod cancel;
mod failure;
mod link;
mod parameter;
mod plan;
mod probe;
mod tls;
mod url;

use super::template::Template;
use super::{Arguments, BoxFuture, DatabaseError, LoadSpec, Loaded, Statement};
use crate::config;
use failure::{Failure, Remedy};
use futures_util::TryStreamExt;
use link::{Lease, Link};
use parameter::Bound;
use parking_lot::RwLock;
use plan::Plan;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Row;

/// A statement that keeps failing is prepared again at most this often.
const PREPARE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One server.
#[derive(Clone)]
pub(super) struct Postgres {
    link: Link,
    /// Whether statements are named and kept on their connections.
    named: bool,
}

impl Postgres {
    /// Connects once, to see that the server is there and lets us in.
    pub(super) async fn connect(config: &config::Database, url: &str) -> Result<Postgres, DatabaseError> {
        let link = Link::new(config, url)?;
        link.lease().await.map_err(|failure| failure.error)?.give_back();
        Ok(Postgres { link, named: config.prepare })
    }

    pub(super) async fn prepare(&self, spec: LoadSpec) -> Result<Arc<dyn Statement>, DatabaseError> {
        let template = Template::new(&spec)?;
        let plan = prepare(&self.link, self.named, &spec, &template).await.map_err(|failure| failure.error)?;
        let current = RwLock::new(Arc::new(plan));
        let preparing = tokio::sync::Mutex::new(None);
        Ok(Arc::new(PostgresStatement {
            link: self.link.clone(),
            named: self.named,
            spec,
            template,
            current,
            preparing,
        }))
    }
}

async fn prepare(link: &Link, named: bool, spec: &LoadSpec, template: &Template) -> Result<Plan, Failure> {
    let lease = link.lease().await?;
    if named {
        let plan = probe::learn(&lease, spec, template).await;
        lease.give_back();
        return plan;
    }
    let plan = probe::learn_in_transaction(&lease, spec, template).await;
    lease.close();
    plan
}

struct PostgresStatement {
    link: Link,
    named: bool,
    spec: LoadSpec,
    template: Template,
    current: RwLock<Arc<Plan>>,
    /// Held by the one load that prepares again: when it was done last.
    preparing: tokio::sync::Mutex<Option<Instant>>,
}

impl Statement for PostgresStatement {
    fn fits(&self, arguments: &[&str]) -> bool {
        let plan = self.plan();
        arguments.len() == plan.parameters.len()
            && plan.parameters.iter().zip(arguments).all(|(parameter, text)| parameter.fits(text))
    }

    fn load(&self, batch: Vec<Arguments>) -> BoxFuture<'_, Result<Vec<Loaded>, DatabaseError>> {
        Box::pin(async move { self.run(&batch).await.map_err(|failure| failure.error) })
    }

    fn is_idle(&self) -> bool {
        self.link.is_idle()
    }

    fn parameter_types(&self) -> Vec<String> {
        self.plan().parameters.iter().map(|parameter| parameter.name.clone()).collect()
    }
}

impl PostgresStatement {
    fn plan(&self) -> Arc<Plan> {
        self.current.read().clone()
    }

    /// One attempt, and where that can help a second.
    async fn run(&self, batch: &[Arguments]) -> Result<Vec<Loaded>, Failure> {
        let plan = self.plan();
        let failure = match self.attempt(&plan, batch).await {
            Ok(answers) => return Ok(answers),
            Err(failure) => failure,
        };
        match failure.remedy {
            Remedy::None | Remedy::Unfit => return Err(failure),
            Remedy::Reconnect => self.link.forget_idle(),
            Remedy::Prepare => self.prepare_again(&plan, failure).await?,
        }
        self.attempt(&self.plan(), batch).await
    }

    /// Replaces `old`, unless another load has done so already or it was tried a moment ago.
    async fn prepare_again(&self, old: &Arc<Plan>, failure: Failure) -> Result<(), Failure> {
        let mut last = self.preparing.lock().await;
        if !Arc::ptr_eq(&self.plan(), old) {
            return Ok(());
        }
        self.link.forget_statement(&old.single);
        self.link.forget_statement(&old.batch);
        if last.is_some_and(|at| at.elapsed() < PREPARE_AGAIN_AFTER) {
            return Err(failure);
        }
        *last = Some(Instant::now());
        let plan = prepare(&self.link, self.named, &self.spec, &self.template).await?;
        *self.current.write() = Arc::new(plan);
        Ok(())
    }

    async fn attempt(&self, plan: &Plan, batch: &[Arguments]) -> Result<Vec<Loaded>, Failure> {
        let answered = match batch {
            [] => return Ok(Vec::new()),
            [first, ..] if plan.parameters.is_empty() => {
                let answer = self.load_one(plan, first).await?;
                return Ok(vec![answer; batch.len()]);
            }
            [arguments] => self.load_one(plan, arguments).await.map(|answer| vec![answer]),
            _ if plan.alone => self.one_by_one(plan, batch).await,
            _ => self.load_many(plan, batch).await,
        };
        match answered {
            Err(failure) if failure.remedy == Remedy::Unfit && !plan.is_checked() => self.one_by_one(plan, batch).await,
            other => other,
        }
    }

    /// Where the server takes no batch, or refused some key part of one: which, only it can say.
    async fn one_by_one(&self, plan: &Plan, batch: &[Arguments]) -> Result<Vec<Loaded>, Failure> {
        let mut answers = Vec::with_capacity(batch.len());
        for arguments in batch {
            answers.push(match self.load_one(plan, arguments).await {
                Err(failure) if failure.remedy == Remedy::Unfit && !plan.is_checked() => plan.nothing()?,
                other => other?,
            });
        }
        Ok(answers)
    }

    async fn load_one(&self, plan: &Plan, arguments: &Arguments) -> Result<Loaded, Failure> {
        let bound = arguments.iter().cloned().map(Bound::One).collect();
        Ok(plan.one(&self.query(&plan.single, bound).await?)?)
    }

    async fn load_many(&self, plan: &Plan, batch: &[Arguments]) -> Result<Vec<Loaded>, Failure> {
        let column = |index: usize| Bound::Many(batch.iter().map(|arguments| arguments[index].clone()).collect());
        let bound = (0..plan.parameters.len()).map(column).collect();
        Ok(plan.many(&self.query(&plan.batch, bound).await?, batch.len())?)
    }

    async fn query(&self, sql: &str, bound: Vec<Bound>) -> Result<Vec<Row>, Failure> {
        let lease = self.link.lease().await?;
        let rows = self.rows(&lease, sql, bound).await;
        lease.give_back();
        Ok(rows?)
    }

    async fn rows(&self, lease: &Lease, sql: &str, bound: Vec<Bound>) -> Result<Vec<Row>, tokio_postgres::Error> {
        let rows = if self.named {
            let statement = lease.prepare_cached(sql).await?;
            lease.query_raw(&statement, bound).await?
        } else {
            let typed = bound.into_iter().map(|bound| {
                let declared = bound.declared();
                (bound, declared)
            });
            lease.query_typed_raw(sql, typed).await?
        };
        rows.try_collect().await
    }
}
