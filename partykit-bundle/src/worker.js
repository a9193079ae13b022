// The Worker: what the platform calls, and how a wasm instance that failed is replaced.
//
// One wasm instance serves all rooms of an isolate. A panic (or running out of memory) leaves it in no
// state to go on: everybody who waits for it gets an error, and the next call finds a new instance. The
// sockets and the storage are the platform's, and stay; each room is made again by its next event,
// as if it had slept.
import * as bindings from "./bindings.js";

/** Which instance this is. */
let generation = 0;

/** Whether it is beyond use. */
let failed = false;

/** Rejects the calls that wait for it. */
const waiting = new Set();

function renew() {
  if (!failed) return;
  bindings.__wbg_reset_state();
  generation += 1;
  failed = false;
}

/** Notes an error that may have been the instance's last. */
function noted(error) {
  if (failed || !bindings.__terminated()) return;
  failed = true;
  console.error("the wasm instance failed, every room of this isolate starts again:", error);
  for (const reject of waiting) reject(new Error("the wasm instance failed"));
  waiting.clear();
}

// What fails while nobody calls, between two awaits, is told only here.
addEventListener("error", (event) => noted(event.error));
addEventListener("unhandledrejection", (event) => noted(event.reason));

/** What a call has answered, or an error as soon as no answer can come any more. Most answers are there at once. */
function settled(answered) {
  if (!(answered instanceof Promise)) return answered;
  return new Promise((resolve, reject) => {
    waiting.add(reject);
    answered.then(
      (value) => {
        waiting.delete(reject);
        resolve(value);
      },
      (error) => {
        waiting.delete(reject);
        noted(error);
        reject(error);
      },
    );
  });
}

/** The answer of `call`. */
function answer(call) {
  try {
    renew();
    return settled(call());
  } catch (error) {
    noted(error);
    throw error;
  }
}

/** The class that the platform makes its objects of, around one that wasm exports. */
function durableObject(Exported) {
  return class {
    #ctx;
    #env;
    #room;
    #generation;

    constructor(ctx, env) {
      this.#ctx = ctx;
      this.#env = env;
    }

    fetch(request) {
      return answer(() => this.#awake().fetch(request));
    }

    alarm(info) {
      return answer(() => this.#awake().alarm(info));
    }

    // The most frequent call, so it is written out: V8 often runs it without having compiled it for speed, and
    // then each function more costs.
    webSocketMessage(socket, message) {
      try {
        if (failed) renew();
        const room = this.#generation === generation ? this.#room : this.#awake();
        const answered = bindings.__hear(room, socket, message);
        return answered === undefined ? undefined : settled(answered);
      } catch (error) {
        noted(error);
        throw error;
      }
    }

    webSocketClose(socket, code, reason, wasClean) {
      return answer(() => this.#awake().webSocketClose(socket, code, reason, wasClean));
    }

    webSocketError(socket, error) {
      return answer(() => this.#awake().webSocketError(socket, error));
    }

    /** The room in the wasm instance of now. */
    #awake() {
      if (this.#generation !== generation) {
        this.#room = new Exported(this.#ctx, this.#env);
        this.#generation = generation;
      }
      return this.#room;
    }
  };
}

export default {
  fetch(request, env, ctx) {
    const answered = bindings.__shortcut(request, env);
    if (answered === undefined) return answer(() => bindings.fetch(request, env, ctx));
    // What the platform says then decides whether the room is asked again.
    return answered.catch((error) => answer(() => bindings.fetch(request, env, ctx, error)));
  },
};

