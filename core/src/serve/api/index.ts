export { type ServedModel, type ServeOptions, Service } from "./service.js";
