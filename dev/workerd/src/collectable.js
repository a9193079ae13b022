// Around a Worker: collects the garbage of its JavaScript when told. The module inside is the Worker's own.
import worker from "./collected.js";

export * from "./collected.js";

export default {
  fetch(request, env, ctx) {
    if (new URL(request.url).pathname !== "/collect-garbage") return worker.fetch(request, env, ctx);
    gc();
    return new Response("collected");
  },
};
