import { start } from "./setup/node-version.mjs";

start(() => import("./setup/lab.mjs"));
