/** Linear algebra: cholesky, triangularSolve, qr, eigh, svd, solve, inv, det, slogdet. */
export {};
