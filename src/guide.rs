//! Compiles the examples of the guide, one item for each page that has some.

#[doc = include_str!("../docs/src/alarms.md")]
struct Alarms;
#[doc = include_str!("../docs/src/calls.md")]
struct Calls;
#[cfg(unix)]
#[doc = include_str!("../docs/src/deploying.md")]
struct Deploying;
#[cfg(feature = "tls")]
#[doc = include_str!("../docs/src/disk.md")]
struct Disk;
#[doc = include_str!("../docs/src/embedding.md")]
struct Embedding;
#[doc = include_str!("../docs/src/factories.md")]
struct Factories;
#[doc = include_str!("../docs/src/first-room.md")]
struct FirstRoom;
#[doc = include_str!("../docs/src/from-partykit.md")]
struct FromPartykit;
#[doc = include_str!("../docs/src/hibernation.md")]
struct Hibernation;
#[cfg(feature = "history")]
#[doc = include_str!("../docs/src/history.md")]
struct History;
#[doc = include_str!("../docs/src/introduction.md")]
struct Introduction;
#[doc = include_str!("../docs/src/json-api.md")]
struct JsonApi;
#[doc = include_str!("../docs/src/observability.md")]
struct Observability;
#[cfg(feature = "presence")]
#[doc = include_str!("../docs/src/presence.md")]
struct Presence;
#[cfg(feature = "metrics")]
#[doc = include_str!("../docs/src/prometheus.md")]
struct Prometheus;
#[doc = include_str!("../docs/src/protocol.md")]
struct Protocol;
#[doc = include_str!("../docs/src/proxies.md")]
struct Proxies;
#[doc = include_str!("../docs/src/rules.md")]
struct Rules;
#[cfg(feature = "cron-zones")]
#[doc = include_str!("../docs/src/schedules.md")]
struct Schedules;
#[doc = include_str!("../docs/src/small.md")]
struct Small;
#[doc = include_str!("../docs/src/state.md")]
struct State;
#[doc = include_str!("../docs/src/storage.md")]
struct Storage;
#[doc = include_str!("../docs/src/tags.md")]
struct Tags;
#[doc = include_str!("../docs/src/tasks.md")]
struct Tasks;
#[doc = include_str!("../docs/src/testing.md")]
struct Testing;
#[doc = include_str!("../docs/src/tokens.md")]
struct Tokens;
#[doc = include_str!("../docs/src/web.md")]
struct Web;
#[doc = include_str!("../docs/src/workers.md")]
struct Workers;
#[cfg(feature = "yjs")]
#[doc = include_str!("../docs/src/yjs.md")]
struct Yjs;
