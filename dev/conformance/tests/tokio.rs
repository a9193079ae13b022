//! The Tokio runtime against the suite: a test for each case, each with a server of its own.

use partykit_conformance::{
    Server, for_each_case, serve,
    suite::{CASES, Target, Verdict, run},
};
use tokio::net::TcpListener;

async fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    serve(Server::parties(), listener).expect("an address")
}

async fn check(name: &str) {
    let server = server().await;
    let case = CASES.iter().find(|case| case.name == name).expect("a case of this name");
    let verdict = (case.run)(&Target::new(&server.url())).await;
    assert_eq!(verdict, Verdict::Passed);
}

macro_rules! tests {
    ($($module:ident { $($case:ident),* $(,)? })*) => {$(
        mod $module {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::check(concat!(stringify!($module), "::", stringify!($case))).await;
            }
        )*}
    )*};
}
for_each_case!(tests);

/// As somebody runs it against a server of theirs: all at once, on one server, and again on the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_at_once_and_again() {
    let server = server().await;
    for _ in 0..2 {
        let report = run(&Target::new(&server.url())).await;
        assert!(report.is_passed(), "{report}");
        assert_eq!(report.ran(), CASES.len());
    }
}
