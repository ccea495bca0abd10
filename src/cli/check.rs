//! `weir check`: validates a file, tries upstream and databases out, and shows what it comes to.

use super::files::ConfigFile;
use super::{CheckArguments, Failure, print, report};
use crate::cache::prepare::prepare;
use crate::config::{Checks, Config, Diagnostic, Encoding, Load, Route};
use crate::server::Access;
use crate::store::redis::probe::{Needs, Probed, Wishes, probe};
use futures_util::future::join;

/// Prints the report, or fails with every error of the file.
pub fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let file = ConfigFile::read(&arguments.file)?;
    let mut errors = Access::of(&file.config.server.auth).err().unwrap_or_default();
    let mut warnings = Vec::new();
    if errors.is_empty() && !arguments.offline {
        (errors, warnings) = try_out(&file.config)?;
    }
    match errors.is_empty() {
        true => print(&report::report(&file.config, &warnings)),
        false => Err(file.failure(&errors)),
    }
}

/// Connects to the upstream, and prepares every statement on its database, as `serve` does; errors, and warnings.
fn try_out(config: &Config) -> Result<(Vec<Diagnostic>, Vec<String>), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tried = join(try_upstream(config), prepare(config));
    let ((mut errors, warnings), prepared) = runtime.map_err(Failure::other)?.block_on(tried);
    errors.extend(prepared.err().unwrap_or_default());
    Ok((errors, warnings))
}

async fn try_upstream(config: &Config) -> (Vec<Diagnostic>, Vec<String>) {
    let Some(upstream) = &config.upstream else { return Default::default() };
    let needs = match &config.routes {
        routes if routes.is_empty() => Needs::Nothing,
        routes if routes.iter().any(|route| !route.tags.is_empty()) => Needs::Tags,
        routes if routes.iter().any(|route| route.sliding) => Needs::Sliding,
        _ => Needs::Routes,
    };
    let checks_hashes = |load: &Load| load.value == Encoding::Hash && load.checks != Checks::default();
    let wishes = Wishes {
        near: config.routes.iter().any(|route| !route.near.is_zero()),
        checks_hashes: config.routes.iter().filter_map(Route::load).any(checks_hashes),
    };
    let Probed { wrong, warnings } = probe(upstream, needs, wishes).await;
    let shown = wrong.into_iter().map(|(error, advice)| {
        let message = error.to_string();
        // Behind a semicolon stands the way out already.
        let other =
            if message.contains("; ") { "" } else { "is it running, and may this host and user connect to it?" };
        Diagnostic::unreachable(&upstream.origin, message, advice.unwrap_or(other))
    });
    (shown.collect(), warnings)
}
