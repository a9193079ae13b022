// Makes ../src/page/editor.js of editor.mjs and the npm packages, and licences.txt of theirs.
import { build } from "esbuild";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";

const page = new URL("../src/page/", import.meta.url).pathname;
const { metafile } = await build({
  entryPoints: ["editor.mjs"],
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  legalComments: "none",
  banner: { js: "// Made by web/build.mjs of the npm packages in licences.txt. Do not edit." },
  outfile: `${page}editor.js`,
  metafile: true,
});
const used = new Set(Object.keys(metafile.inputs).flatMap((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1] ?? []));
const texts = await Promise.all([...used].sort().map(async (name) => {
  const { version, license } = JSON.parse(await readFile(`node_modules/${name}/package.json`));
  const file = (await readdir(`node_modules/${name}`)).find((file) => /^licen[cs]e/i.test(file));
  const text = file && existsSync(`node_modules/${name}/${file}`) ? await readFile(`node_modules/${name}/${file}`, "utf8") : "";
  return `${name} ${version}, ${license}\n\n${text.trim()}\n`;
}));
await writeFile(`${page}licences.txt`, `editor.js is made of these packages.\n\n${texts.join("\n---\n\n")}`);
