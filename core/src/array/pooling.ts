/** Pooling over windows: sumPool, avgPool and maxPool in one to three spatial dimensions. */
export {};
