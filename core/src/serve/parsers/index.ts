export {
  collectEvents,
  type OutputParser,
  type ParsedCall,
  type ParsedEvent,
  type ParsedOutput,
} from "./events.js";
export {
  createParser,
  familyOfTemplate,
  type ParserFamily,
  type ParserOptions,
  parserFamilies,
} from "./families.js";
