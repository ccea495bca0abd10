//! Under a simulated clock: the runtime's time passes when nobody has anything to do.

use super::*;
use crate::cache::breaker::{FIRST, IN_A_ROW};
use crate::clock::SystemClock;
use futures_util::FutureExt;
use std::sync::atomic::AtomicU64;
use tokio::task::JoinHandle;

const CLOCK: SystemClock = SystemClock;
const PATIENCE: Duration = Duration::from_secs(1);
const A_WHILE: Duration = Duration::from_millis(100);

fn now() -> Instant {
    CLOCK.now()
}

fn waits(gate: &Arc<Gate>) -> JoinHandle<Result<Pass, Reason>> {
    let gate = gate.clone();
    tokio::spawn(async move { gate.pass(&CLOCK, PATIENCE).await.map_err(|refusal| refusal.reason) })
}

fn free(gate: &Arc<Gate>) -> Pass {
    gate.pass_if_free(now()).expect("a turn is free")
}

fn fail(gate: &Arc<Gate>) {
    free(gate).witness.tell(Verdict::Failed, &CLOCK);
}

fn reason(refused: Result<Pass, Refusal>) -> Reason {
    refused.err().expect("it is refused").reason
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_pool_ask_at_once_and_nobody_is_overtaken() {
    let gate = Gate::new("main", 2, 100);
    let (running, order) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let loads: Vec<_> = (0..20)
        .map(|number| {
            let (gate, running, order) = (gate.clone(), running.clone(), order.clone());
            tokio::spawn(async move {
                let pass = gate.pass(&CLOCK, PATIENCE * 100).await.expect("there is room");
                order.lock().push(number);
                assert!(running.fetch_add(1, Relaxed) < 2);
                CLOCK.sleep(A_WHILE).await;
                running.fetch_sub(1, Relaxed);
                pass.witness.tell(Verdict::Answered, &CLOCK);
            })
        })
        .collect();
    let begun = now();
    for load in loads {
        load.await.expect("no assertion fails");
    }
    assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>());
    assert_eq!(now() - begun, A_WHILE * 10, "and no turn stays idle");
}

#[tokio::test(start_paused = true)]
async fn who_comes_to_a_full_line_is_shed_at_once_and_who_waits_too_long_later() {
    let gate = Gate::new("main", 1, 2);
    let turn = free(&gate);
    let (first, second) = (waits(&gate), waits(&gate));
    tokio::task::yield_now().await;
    let begun = now();
    assert_eq!(reason(gate.pass(&CLOCK, PATIENCE).await), Reason::Full(2));
    assert_eq!(now(), begun);
    for waiting in [first, second] {
        assert_eq!(waiting.await.expect("it ends").err(), Some(Reason::Late(PATIENCE, 1)));
    }
    assert_eq!(now() - begun, PATIENCE);
    // Their places are free again, and so is the turn when it ends.
    let third = waits(&gate);
    tokio::task::yield_now().await;
    CLOCK.sleep(A_WHILE).await;
    drop(turn);
    assert_eq!(third.await.expect("it ends").ok().map(|pass| pass.waited), Some(A_WHILE));
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_leaves_the_line() {
    let gate = Gate::new("main", 1, 1);
    let turn = free(&gate);
    let gone = waits(&gate);
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.is_err());
    let next = waits(&gate);
    tokio::task::yield_now().await;
    drop(turn);
    assert!(next.await.expect("it ends").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_given_to_one_who_leaves_is_not_lost() {
    let gate = Gate::new("main", 1, 10);
    let turn = free(&gate);
    let reader = waits(&gate);
    tokio::task::yield_now().await;
    drop(turn);
    let mut last = pin!(gate.pass_last(&CLOCK));
    assert!(last.as_mut().now_or_never().is_none(), "the reader has it");
    reader.abort();
    let last = tokio::time::timeout(PATIENCE, last).await.expect("it is heard that the reader has left");
    assert!(last.is_ok());
}

#[tokio::test(start_paused = true)]
async fn readers_go_before_what_nobody_waits_for() {
    let gate = Gate::new("main", 1, 10);
    let turn = free(&gate);
    let last = tokio::spawn({
        let gate = gate.clone();
        async move { gate.pass_last(&CLOCK).await.map(|pass| (pass, now())) }
    });
    tokio::task::yield_now().await;
    let reader = waits(&gate);
    tokio::task::yield_now().await;
    assert_eq!(reason(gate.pass_if_free(now())), Reason::Busy);
    drop(turn);
    let reader = reader.await.expect("it ends").expect("it has its turn");
    CLOCK.sleep(A_WHILE).await;
    assert!(!last.is_finished());
    let ended = now();
    drop(reader);
    let (_pass, begun) = last.await.expect("it ends").expect("it has its turn");
    assert_eq!(begun, ended);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_in_the_moment_in_which_it_opens() {
    let gate = Gate::new("main", 5, 10);
    let passes: Vec<Pass> = (0..IN_A_ROW).map(|_| free(&gate)).collect();
    let waiting: Vec<_> = (0..3).map(|_| waits(&gate)).collect();
    let last = tokio::spawn({
        let gate = gate.clone();
        async move { reason(gate.pass_last(&CLOCK).await) }
    });
    CLOCK.sleep(A_WHILE).await;
    let begun = now();
    let turns: Vec<Turn> = passes
        .into_iter()
        .map(|Pass { turn, witness, .. }| {
            witness.tell(Verdict::Failed, &CLOCK);
            turn
        })
        .collect();
    for waiting in waiting {
        assert_eq!(waiting.await.expect("it ends").err(), Some(Reason::Down));
    }
    // Also who finds all turns taken yet, and who finds one free.
    assert_eq!(reason(gate.pass(&CLOCK, PATIENCE).await), Reason::Down);
    drop(turns);
    assert_eq!(last.await.expect("it ends"), Reason::Down);
    assert_eq!(reason(gate.pass(&CLOCK, PATIENCE).await), Reason::Down);
    assert_eq!(reason(gate.pass_if_free(now())), Reason::Down);
    assert!(gate.is_down());
    assert_eq!(now(), begun);
}

#[tokio::test(start_paused = true)]
async fn one_probe_asks_whether_it_is_back() {
    let gate = Gate::new("main", 16, 10);
    (0..IN_A_ROW).for_each(|_| fail(&gate));
    CLOCK.sleep(FIRST).await;
    let probe = gate.pass(&CLOCK, PATIENCE).await.expect("the pause is over");
    assert_eq!(reason(gate.pass(&CLOCK, PATIENCE).await), Reason::Down);
    assert_eq!(probe.witness.tell(Verdict::Answered, &CLOCK), Some(Change::Closed));
    assert!(!gate.is_down());
    let passes: Vec<Pass> = (0..15).map(|_| free(&gate)).collect();
    drop(probe.turn);
    drop((free(&gate), passes));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_leaves_its_place_to_the_next() {
    let gate = Gate::new("main", 16, 10);
    (0..IN_A_ROW).for_each(|_| fail(&gate));
    CLOCK.sleep(FIRST).await;
    drop(free(&gate));
    assert_eq!(free(&gate).witness.tell(Verdict::Answered, &CLOCK), Some(Change::Closed));
}
