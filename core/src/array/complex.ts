/** Complex numbers: complex(re, im), real, imag, conj. */
export {};
