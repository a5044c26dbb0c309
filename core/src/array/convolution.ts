/** Convolutions of one to three spatial dimensions: `convGeneral`, and conv1d, conv2d, conv3d and their transposes, written with it. */
export {};
