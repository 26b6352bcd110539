// `node run.mjs SCENARIO OPTIONS`: play one scenario and print what came of it as one line of JSON.

import * as connections from "./connections.mjs";
import * as endings from "./endings.mjs";
import * as joins from "./joins.mjs";
import * as longpoll from "./longpoll.mjs";
import * as pushes from "./pushes.mjs";
import * as recorded from "./recorded.mjs";
import * as rooms from "./rooms.mjs";
import { World } from "./world.mjs";

const scenarios = { ...connections, ...endings, ...joins, ...longpoll, ...pushes, ...recorded, ...rooms };
const [name, options] = process.argv.slice(2);

function end(code, stream, text) {
  stream.write(`${text}\n`, () => process.exit(code));
}

const world = new World(JSON.parse(options));
setTimeout(() => end(1, process.stderr, `${name} hangs; so far: ${JSON.stringify(world.frames.slice(-20))}`), world.patienceMs);
try {
  const result = JSON.stringify(await scenarios[name](world)); // before closing adds to it
  await world.close();
  const { frames, requests } = world;
  end(0, process.stdout, JSON.stringify({ result: JSON.parse(result), frames, requests }));
} catch (error) {
  end(1, process.stderr, `${error.stack}\n${JSON.stringify(world.frames.slice(-20))}`);
}
