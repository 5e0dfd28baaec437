//! Bundles are written one at a time.

use mastio_authority::{Refusal, admin::Operator};
use mastio_ledger::{
    Ledger,
    bundle::{Bundle, BundleError, Question, Stamping, Wanted},
};

use crate::world::{World, write};

const FIRST_TWO: Question =
    Question { wanted: Wanted::Places(1, 2), stamping: Stamping::None, against_size: None };

async fn ask(ledger: &Ledger) -> Result<Bundle, BundleError> {
    let by = Operator { fingerprint: "test".into() };
    ledger.bundle(FIRST_TWO, &by).await
}

/// Takes the whole bundle.
async fn take(mut bundle: Bundle) {
    while bundle.portions.next().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_has_the_whole_bundle_may_ask_for_the_next_one_at_once() {
    let world = World::new();
    let ledger = world.boot(&[]).await;
    write(&ledger, 2).await;
    for _ in 0..200 {
        take(ask(&ledger).await.unwrap()).await;
    }

    let (first, second) = tokio::join!(ask(&ledger), ask(&ledger));
    assert_eq!(second.unwrap_err().reason(), "bundle_in_progress");
    take(first.unwrap()).await;
    take(ask(&ledger).await.unwrap()).await;
}
