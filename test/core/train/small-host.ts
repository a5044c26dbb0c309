/** A runtime that may count on 4 GB, whatever the machine has: import this before the runtime's support. */
process.env.ARONNAX_RUNTIME_HOST_BYTES = String(4e9);
