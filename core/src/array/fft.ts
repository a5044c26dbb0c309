/** Discrete Fourier transforms over the last axes: fft, ifft, rfft, irfft. */
export {};
