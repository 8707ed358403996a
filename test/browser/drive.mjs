// Runs one scenario: node drive.mjs NAME, with the settings as JSON on standard input. Prints the scenario's result as one
// line of JSON; on failure the error, and exit code 1.
import { readFileSync } from "node:fs";
import path from "node:path";
import { Stage } from "./lib.mjs";
import * as company from "./company.mjs";
import * as demo from "./scenarios.mjs";

const scenarios = { ...demo, ...company };
const name = process.argv[2];
const settings = JSON.parse(readFileSync(0, "utf8"));
const stage = await Stage.open(settings);
try {
  const result = await scenarios[name](stage);
  await stage.close();
  console.log(JSON.stringify(result ?? {}));
} catch (error) {
  console.error(`${name}: ${error.stack}`);
  for (const complaint of stage.complaints) console.error(`also: ${complaint}`);
  let n = 0;
  for (const context of stage.browser.contexts()) {
    for (const page of context.pages()) {
      const picture = path.join(settings.screenshots, `failed-${name}-${n++}.png`);
      console.error(`page ${page.url()} looked like ${picture}`);
      await page.screenshot({ path: picture, fullPage: true }).catch(() => {});
    }
  }
  await stage.browser.close();
  process.exitCode = 1;
}
