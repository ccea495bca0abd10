//! Weir's own keys, as clients meet them: not at all in what lists or counts keys, and to be read but not changed by those
//! who know their names. How they are kept out of an answer is told by [`hidden`].
//!
//! A Weir without routes, whose clients name no tags, makes no such keys, and passes everything on as it is. So does one over
//! the embedded store, whose side entries are no keys.
//!
//! What the upstream's own users ask ([`super::as_user`]) is asked as they are, for the upstream to judge; Weir's own user
//! then counts. Inside their transactions nothing is hidden.

use super::conn::{Conn, Flow, Request};
use super::output::Output;
use super::routed::{self, error, upstream_text};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Access, Spec};
use crate::resp::write;
use crate::store::Way;
use crate::store::redis::hidden::{self, Hides};

const OWN: &str = "ERR 'weir:{' begins the names of Weir's own keys, which clients may read but not change; use another name, or \
     connect to Redis itself";

impl Conn {
    /// How Weir's own keys are kept out of the answer to this command; `None`: there are none in it.
    pub(super) fn hides(&self, spec: &Spec, args: Args<'_>) -> Option<Hides> {
        hidden::hides(spec, args).filter(|_| self.worker.app.has_own_keys())
    }

    /// A command without keys, which may be about all of them.
    pub(super) fn without_own_keys(&mut self, spec: &Spec, request: Request<'_>) -> Flow {
        match self.hides(spec, request.args) {
            None => self.forward(request),
            Some(Hides::ByScript(script)) if !self.is_upstream_user() => {
                self.forward_instead(request, &command(&hidden::call(script, request.args.from(1))))
            }
            Some(hides) => {
                self.send_run(request.bytes);
                self.answer_with(run(hides, request.args.iter().collect(), self.way.clone()));
                Flow::Next
            }
        }
    }

    /// What is queued inside MULTI in a command's place; `None`: itself.
    pub(super) fn queued_instead(&self, spec: &Spec, args: Args<'_>) -> Option<Vec<u8>> {
        let hides = self.hides(spec, args).filter(|_| !self.is_upstream_user())?;
        Some(command(&hidden::call_in_transaction(hides, args)))
    }

    /// Refuses a command that might change Weir's own keys: it would break what they are for. `None`: it does not.
    pub(super) fn refuse_on_own_keys(&mut self, spec: &Spec, access: Access, request: Request<'_>) -> Option<Flow> {
        let changes = matches!(access, Access::Modify | Access::Write);
        if !changes || !hidden::names_own(spec, request.args) || !self.worker.app.has_own_keys() {
            return None;
        }
        self.poison();
        Some(self.answer(request, |out| write::error(out, OWN)))
    }
}

fn command(args: &OwnedArgs) -> Vec<u8> {
    write::whole_command(args.as_args().iter())
}

/// Runs a command about all keys, and leaves Weir's own out of its answer.
pub async fn run(hides: Hides, args: OwnedArgs, way: Way) -> Output {
    let reply = way.run_hiding(hides, args.as_args()).await;
    reply.map_or_else(|failure| error(&upstream_text(failure)), Output::whole)
}

/// Runs a command that may be about all keys wherever it belongs in a cluster.
pub async fn run_everywhere(hides: Option<Hides>, command: Vec<u8>, way: Way) -> Output {
    match hides {
        Some(hides) => run(hides, routed::parse(&command), way).await,
        None => routed::run(command, way).await,
    }
}
