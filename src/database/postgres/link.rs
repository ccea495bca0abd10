//! Connections: a pool as large as the cap on concurrent loads, and queries that stop on the server when nobody
//! waits for them any more.
//!
//! A dropped query is cancelled in the background. Its place in the pool stays taken until the server has
//! stopped (so that the cap holds there too) and the connection is closed then: a cancel request that comes late
//! would hit whatever ran on it next.

use super::cancel::{self, Address};
use super::failure::Failure;
use super::url;
use crate::config;
use crate::database::DatabaseError;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The connections of one database. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    pool: Pool,
    cancelling: Arc<Cancelling>,
}

/// What it takes to stop a query.
struct Cancelling {
    tls: MakeRustlsConnect,
    addresses: Vec<Address>,
    /// The longest that the server may take to stop.
    limit: Duration,
}

impl Link {
    /// Opens nothing yet.
    pub(super) fn new(config: &config::Database, url: &str) -> Result<Link, DatabaseError> {
        let mut target = url::parse(url)?;
        let tls = super::tls::connector(&target)?;
        target.config.connect_timeout(config.timeout);
        if target.config.get_application_name().is_none() {
            target.config.application_name("weir");
        }
        // PgBouncer refuses startup options; there, cancelling has to do.
        if config.prepare {
            let own = target.config.get_options().unwrap_or_default().to_owned();
            target.config.options(format!("-c statement_timeout={} {own}", config.timeout.as_millis().max(1)));
        }
        let addresses = Address::all(&target.config);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(target.config, tls.clone(), recycling))
            .max_size(config.pool.max(1))
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(config.timeout))
            .recycle_timeout(Some(config.timeout))
            .build()
            .map_err(|error| DatabaseError::Unavailable(error.to_string()))?;
        Ok(Link { pool, cancelling: Arc::new(Cancelling { tls, addresses, limit: config.timeout }) })
    }

    /// Waits for a connection as long as the caller does.
    pub(super) async fn lease(&self) -> Result<Lease, Failure> {
        let object = self.pool.get().await?;
        Ok(Lease { object: Some(object), runtime: Handle::current(), cancelling: self.cancelling.clone() })
    }

    /// Whether less than half of the connections that there may be are in use.
    pub(super) fn is_idle(&self) -> bool {
        let status = self.pool.status();
        status.waiting == 0 && status.size.saturating_sub(status.available) * 2 < status.max_size
    }

    /// Closes the connections that nobody uses: if one broke, none of them is to be trusted.
    pub(super) fn forget_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Makes every connection prepare `sql` again.
    pub(super) fn forget_statement(&self, sql: &str) {
        self.pool.manager().statement_caches.remove(sql, &[]);
    }
}

/// One connection, while a query runs on it. Dropping it without `give_back` or `close` cancels that query.
pub(super) struct Lease {
    /// `None` once it is given away.
    object: Option<Object>,
    runtime: Handle,
    cancelling: Arc<Cancelling>,
}

impl Lease {
    /// The query has ended: others may have the connection.
    pub(super) fn give_back(mut self) {
        drop(self.object.take());
    }

    /// The query has ended, and nobody shall have the connection again.
    pub(super) fn close(mut self) {
        self.object.take().map(Object::take);
    }
}

impl Deref for Lease {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.object.as_ref().expect("only the methods that consume a lease empty it")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            self.runtime.spawn(stop(object, self.cancelling.clone()));
        }
    }
}

async fn stop(object: Object, cancelling: Arc<Cancelling>) {
    let token = object.cancel_token();
    let stopped = async {
        for address in &cancelling.addresses {
            if let Err(error) = cancel::cancel(&token, address, cancelling.tls.clone()).await {
                tracing::debug!(%error, "a query could not be cancelled");
            }
        }
        // Answered only after the cancelled query has ended. Whether well or not is all the same.
        let _ = object.simple_query("").await;
    };
    let _ = tokio::time::timeout(cancelling.limit, stopped).await;
    drop(Object::take(object));
}
