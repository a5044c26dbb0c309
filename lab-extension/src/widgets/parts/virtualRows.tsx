import { type ReactNode, useLayoutEffect, useRef, useState } from "react";

/** Rows beyond those in sight that are there, so that scrolling has no gaps. */
const BEYOND = 8;

/** Of a list of many equally high rows those that are in sight: a folder of ten thousand runs is as quick as one of ten. */
export function useVisibleRows(count: number, rowHeight: number) {
  const scroller = useRef<HTMLDivElement>(null);
  const [range, setRange] = useState<readonly [number, number]>([0, 40]);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) {
      return;
    }
    const measure = () => {
      const first = Math.max(0, Math.floor(element.scrollTop / rowHeight) - BEYOND);
      const last = Math.ceil((element.scrollTop + element.clientHeight) / rowHeight) + BEYOND;
      setRange((old) => (old[0] === first && old[1] === last ? old : [first, last]));
    };
    measure();
    element.addEventListener("scroll", measure, { passive: true });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => {
      element.removeEventListener("scroll", measure);
      observer.disconnect();
    };
  }, [rowHeight]);
  const first = Math.min(range[0], Math.max(0, count - 1));
  const last = Math.min(range[1], count);
  return { scroller, first, last, above: first * rowHeight, below: Math.max(0, count - last) * rowHeight };
}

/** Room for rows that are not there, inside of a table. */
export function Gap({ height, columns }: { readonly height: number; readonly columns: number }): ReactNode {
  return height === 0 ? null : (
    <tr className="aronnax-Gap">
      <td colSpan={columns} style={{ height }} />
    </tr>
  );
}
