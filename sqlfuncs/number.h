/* Decimal numbers to and from binary, the same under every locale: the C library's strtod and
 * printf use the decimal point of the process, JSON always a dot. */
#ifndef VS_NUMBER_H
#define VS_NUMBER_H

#include <stddef.h>

/* vs_scan_number reads the JSON number (RFC 8259: no plus sign, digits on both sides of the
 * point, and after a leading zero only the point) at the start of text.
 *
 * text, len  need not end with a NUL; nothing beyond len is read.
 * value      receives the nearest float64, or an infinity when the number is too large.
 *
 * Returns how many bytes the number takes, or, if there is none, -(i + 1) with i the offset of
 * the byte that does not fit; i == len means that the text ends too early. Allocates nothing. */
long vs_scan_number(const char *text, size_t len, double *value);

/* Room for any number that vs_print_f32 and vs_print_f64 write, with its NUL. */
#define VS_NUMBER_MAX 32

/* vs_print_… write a finite number as JSON, as short as they can with vs_scan_number still
 * reading back the same float64, float32, float16 or bfloat16. Whole numbers have no point, and
 * below 100,000 all their digits.
 * Return the length without the NUL. */
int vs_print_bf16(char out[VS_NUMBER_MAX], float x);
int vs_print_f16(char out[VS_NUMBER_MAX], float x);
int vs_print_f32(char out[VS_NUMBER_MAX], float x);
int vs_print_f64(char out[VS_NUMBER_MAX], double x);

#endif
