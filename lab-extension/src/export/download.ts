/** Hands a file to the browser's downloads. */
export function download(name: string, type: string, content: readonly BlobPart[]): void {
  const url = URL.createObjectURL(new Blob([...content], { type }));
  const link = document.createElement("a");
  link.href = url;
  // A run's name may have characters that no file has.
  link.download = name.replace(/[\\/:*?"<>|]/g, "_");
  link.click();
  // The download takes the content while it begins, which is later than now.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
