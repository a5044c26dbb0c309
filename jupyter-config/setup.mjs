import { start } from "./setup/node-version.mjs";

start(() => import("./setup/setup.mjs"));
