import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";

/** `[session, line, input]` or, with output, `[session, line, [input, output]]`, as in a history_reply. */
export type HistoryEntry = [number, number, string | [string, string | null]];

export interface HistoryRequest {
  output?: boolean;
  raw?: boolean;
  hist_access_type?: string;
  session?: number;
  start?: number;
  stop?: number;
  n?: number;
  pattern?: string;
  unique?: boolean;
}

interface Row {
  session: number;
  line: number;
  source: string;
  output: string | null;
}

/** The inputs of all sessions, kept in SQLite beside the user's other Jupyter data; in memory where that fails. */
export class History {
  #database: DatabaseSync | undefined;
  #session = 0;
  #line = 0;

  async #open(): Promise<DatabaseSync> {
    if (this.#database) return this.#database;
    const { DatabaseSync } = await import("node:sqlite");
    if (this.#database) return this.#database;
    let database: DatabaseSync;
    try {
      database = prepare(new DatabaseSync(historyFile()));
    } catch {
      database = prepare(new DatabaseSync(":memory:"));
    }
    const { lastInsertRowid } = database
      .prepare("INSERT INTO sessions (started) VALUES (?)")
      .run(new Date().toISOString());
    this.#session = Number(lastInsertRowid);
    this.#database = database;
    return database;
  }

  async append(line: number, source: string): Promise<void> {
    const database = await this.#open();
    this.#line = Math.max(this.#line, line);
    database
      .prepare("INSERT OR REPLACE INTO history (session, line, source) VALUES (?, ?, ?)")
      .run(this.#session, line, source);
  }

  async setOutput(line: number, output: string): Promise<void> {
    const database = await this.#open();
    database
      .prepare("UPDATE history SET output = ? WHERE session = ? AND line = ?")
      .run(output, this.#session, line);
  }

  async find(request: HistoryRequest): Promise<HistoryEntry[]> {
    const database = await this.#open();
    return this.#rows(database, request).map(({ session, line, source, output }) => [
      session,
      line,
      request.output ? [source, output] : source,
    ]);
  }

  #rows(database: DatabaseSync, request: HistoryRequest): Row[] {
    const n = request.n ?? -1;
    const columns = "session, line, source, output";
    switch (request.hist_access_type) {
      case "range": {
        // Session 0 is this one, -1 the one before, as in IPython.
        const asked = request.session ?? 0;
        const session = asked > 0 ? asked : this.#session + asked;
        const start = request.start ?? 0;
        const stop = request.stop ?? Number.MAX_SAFE_INTEGER;
        return database
          .prepare(
            `SELECT ${columns} FROM history WHERE session = ? AND line >= ? AND line < ? ORDER BY line`,
          )
          .all(session, start, stop) as unknown as Row[];
      }
      case "search": {
        const pattern = request.pattern ?? "*";
        const group = request.unique ? "GROUP BY source HAVING MAX(session * 1000000 + line)" : "";
        const rows = database
          .prepare(
            `SELECT ${columns} FROM history WHERE source GLOB ? ${group} ORDER BY session DESC, line DESC LIMIT ?`,
          )
          .all(pattern, n) as unknown as Row[];
        return rows.reverse();
      }
      default: {
        const rows = database
          .prepare(`SELECT ${columns} FROM history ORDER BY session DESC, line DESC LIMIT ?`)
          .all(n) as unknown as Row[];
        return rows.reverse();
      }
    }
  }

  close(): void {
    this.#database?.close();
  }
}

function historyFile(): string {
  const base =
    process.env.JUPYTER_DATA_DIR ??
    join(process.env.XDG_DATA_HOME ?? join(homedir(), ".local", "share"), "jupyter");
  const folder = join(base, "aronnax");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return join(folder, "history.sqlite");
}

function prepare(database: DatabaseSync): DatabaseSync {
  database.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = OFF;
    PRAGMA busy_timeout = 200;
    CREATE TABLE IF NOT EXISTS sessions (session INTEGER PRIMARY KEY AUTOINCREMENT, started TEXT);
    CREATE TABLE IF NOT EXISTS history (session INTEGER, line INTEGER, source TEXT, output TEXT, PRIMARY KEY (session, line));
  `);
  return database;
}
