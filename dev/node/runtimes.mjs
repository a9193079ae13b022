// The runtime that the tests are about: Tokio, or with `RUNTIME=workerd` Workers.

import * as tokio from "./server.mjs";
import * as workerd from "./workerd.mjs";

/** Whether it is Workers. What tests leave out then is in `docs/src/workers.md`, each with its reason. */
export const ON_WORKERD = process.env.RUNTIME === "workerd";

export const { Board, Chat, Editor, Relay, Reminders, Probe } = ON_WORKERD ? workerd : tokio;

/** An option of a test: why it is none for Workers. */
export const notOnWorkerd = (why) => ({ skip: ON_WORKERD && why });
