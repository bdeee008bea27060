/**
 * A length as a style takes it.
 */
export const px = (pixels: number | undefined): string => `${pixels ?? 0}px`
