/* Functions on our own connections and on no others. See DESIGN.md. */
#ifndef VS_REGISTER_H
#define VS_REGISTER_H

/* vs_begin_open makes the next SQLite connection that this thread opens get the functions.
 * Returns a SQLite result code. */
int vs_begin_open(void);

/* vs_end_open takes that back if no connection was opened since. Returns 1 if one was and has
 * the functions, else 0. */
int vs_end_open(void);

#endif
