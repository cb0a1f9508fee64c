#include "vfs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DISK_WEAK extern disk_vfs *sqlite3_vfs_find(const char *);
DISK_WEAK extern int sqlite3_vfs_register(disk_vfs *, int);

enum { SECTOR = 512 };

/* A sector that was written since the last sync: what it held then. */
typedef struct sector {
	unsigned char *old; /* NULL: not written since */
	int dropped;        /* a sync has failed since: the system takes it for clean */
} sector;

/* A node is a file, however often it is open. */
typedef struct node {
	struct node *next;
	char *path;
	sector *sectors;
	long long count;
	long long synced; /* size at the last sync; -1: as it is */
} node;

typedef struct disk {
	struct disk *next;
	char *dir;
	pthread_mutex_t mu; /* guards what follows */
	node *nodes;
	int ops, after, times, full, torn, failed;
} disk;

typedef struct shim {
	disk_file base;
	disk *disk;
	node *node;
	disk_file *real; /* behind this struct */
} shim;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* guards disks */
static disk *disks;
static disk_vfs *real_vfs;
static disk_vfs vfs;
static disk_io io;

static void clean(node *n) {
	for (long long i = 0; i < n->count; i++) free(n->sectors[i].old);
	free(n->sectors);
	n->sectors = NULL;
	n->count = 0;
	n->synced = -1;
}

static node *find(disk *d, const char *path, int make) {
	for (node *n = d->nodes; n; n = n->next)
		if (strcmp(n->path, path) == 0) return n;
	if (!make) return NULL;
	node *n = calloc(1, sizeof *n);
	if (n == NULL || (n->path = strdup(path)) == NULL) abort();
	n->synced = -1;
	n->next = d->nodes;
	return d->nodes = n;
}

static disk *disk_of(const char *path) {
	pthread_mutex_lock(&mu);
	disk *d = disks;
	while (d && strncmp(d->dir, path, strlen(d->dir)) != 0) d = d->next;
	pthread_mutex_unlock(&mu);
	return d;
}

/* fails says whether this operation does. */
static int fails(disk *d, int op) {
	if ((d->ops & op) == 0 || d->times == 0) return 0;
	if (d->after > 0) {
		d->after--;
		return 0;
	}
	d->times--;
	d->failed++;
	return 1;
}

/* keep_old remembers what the sectors of a range hold. */
static void keep_old(shim *s, long long from, long long to) {
	node *n = s->node;
	disk_int64 size = 0;
	if (n->synced < 0 && s->real->pMethods->xFileSize(s->real, &size) == DISK_OK) n->synced = size;
	long long last = (to + SECTOR - 1) / SECTOR;
	if (last > n->count) {
		long long count = last * 2;
		sector *more = realloc(n->sectors, count * sizeof *more);
		if (more == NULL) abort();
		memset(more + n->count, 0, (count - n->count) * sizeof *more);
		n->sectors = more;
		n->count = count;
	}
	for (long long i = from / SECTOR; i < last; i++) {
		sector *x = &n->sectors[i];
		x->dropped = 0;
		if (x->old) continue;
		if ((x->old = calloc(1, SECTOR)) == NULL) abort();
		s->real->pMethods->xRead(s->real, x->old, SECTOR, i * SECTOR); /* a short read leaves zeros */
	}
}

static int shim_close(disk_file *f) {
	shim *s = (shim *)f;
	return s->real->pMethods->xClose(s->real);
}

static int shim_read(disk_file *f, void *p, int n, disk_int64 at) {
	shim *s = (shim *)f;
	if (s->disk) {
		pthread_mutex_lock(&s->disk->mu);
		int bad = fails(s->disk, DISK_READ);
		pthread_mutex_unlock(&s->disk->mu);
		if (bad) return DISK_IOERR_READ;
	}
	return s->real->pMethods->xRead(s->real, p, n, at);
}

static int shim_write(disk_file *f, const void *p, int n, disk_int64 at) {
	shim *s = (shim *)f;
	if (s->disk == NULL) return s->real->pMethods->xWrite(s->real, p, n, at);
	pthread_mutex_lock(&s->disk->mu);
	int rc = DISK_OK;
	if (fails(s->disk, DISK_WRITE)) {
		rc = s->disk->full ? DISK_FULL : DISK_IOERR_WRITE;
		n = s->disk->torn ? n / 2 : 0;
	}
	if (n > 0) {
		keep_old(s, at, at + n);
		int wrote = s->real->pMethods->xWrite(s->real, p, n, at);
		if (rc == DISK_OK) rc = wrote;
	}
	pthread_mutex_unlock(&s->disk->mu);
	return rc;
}

static int shim_truncate(disk_file *f, disk_int64 size) {
	shim *s = (shim *)f;
	if (s->disk == NULL) return s->real->pMethods->xTruncate(s->real, size);
	pthread_mutex_lock(&s->disk->mu);
	int rc = DISK_IOERR_TRUNCATE;
	if (!fails(s->disk, DISK_WRITE)) {
		disk_int64 now = 0;
		if (s->real->pMethods->xFileSize(s->real, &now) == DISK_OK && now > size) keep_old(s, size, now);
		rc = s->real->pMethods->xTruncate(s->real, size);
	}
	pthread_mutex_unlock(&s->disk->mu);
	return rc;
}

/* The files of a simulation need no real sync: they are removed at its end. A sync that fails
 * is one of Linux: what it did not write counts as clean, and later syncs leave it out. */
static int shim_sync(disk_file *f, int flags) {
	shim *s = (shim *)f;
	if (s->disk == NULL) return s->real->pMethods->xSync(s->real, flags);
	pthread_mutex_lock(&s->disk->mu);
	node *n = s->node;
	int bad = fails(s->disk, DISK_SYNC), dropped = 0;
	for (long long i = 0; i < n->count; i++) {
		sector *x = &n->sectors[i];
		if (x->old == NULL) continue;
		if (bad) x->dropped = 1;
		if (x->dropped) {
			dropped = 1;
			continue;
		}
		free(x->old);
		x->old = NULL;
	}
	if (!dropped) n->synced = -1;
	pthread_mutex_unlock(&s->disk->mu);
	return bad ? DISK_IOERR_FSYNC : DISK_OK;
}

#define REAL(f) ((shim *)(f))->real
#define CALL(f, method, ...) REAL(f)->pMethods->method(REAL(f), ##__VA_ARGS__)

static int shim_size(disk_file *f, disk_int64 *n) { return CALL(f, xFileSize, n); }
static int shim_lock(disk_file *f, int l) { return CALL(f, xLock, l); }
static int shim_unlock(disk_file *f, int l) { return CALL(f, xUnlock, l); }
static int shim_reserved(disk_file *f, int *r) { return CALL(f, xCheckReservedLock, r); }
static int shim_control(disk_file *f, int op, void *p) { return CALL(f, xFileControl, op, p); }
static int shim_sector(disk_file *f) { return CALL(f, xSectorSize); }
static int shim_traits(disk_file *f) { return CALL(f, xDeviceCharacteristics); }
static int shim_shm_map(disk_file *f, int pg, int size, int extend, void volatile **p) { return CALL(f, xShmMap, pg, size, extend, p); }
static int shim_shm_lock(disk_file *f, int at, int n, int flags) { return CALL(f, xShmLock, at, n, flags); }
static void shim_shm_barrier(disk_file *f) { CALL(f, xShmBarrier); }
static int shim_shm_unmap(disk_file *f, int gone) { return CALL(f, xShmUnmap, gone); }
static int shim_fetch(disk_file *f, disk_int64 at, int n, void **p) { return CALL(f, xFetch, at, n, p); }
static int shim_unfetch(disk_file *f, disk_int64 at, void *p) { return CALL(f, xUnfetch, at, p); }

static int shim_open(disk_vfs *v, const char *path, disk_file *f, int flags, int *out) {
	shim *s = (shim *)f;
	memset(s, 0, sizeof *s);
	s->real = (disk_file *)(s + 1);
	int rc = real_vfs->xOpen(real_vfs, path, s->real, flags, out);
	if (rc != DISK_OK) return rc;
	if (path && (s->disk = disk_of(path)) != NULL) {
		pthread_mutex_lock(&s->disk->mu);
		s->node = find(s->disk, path, 1);
		pthread_mutex_unlock(&s->disk->mu);
	}
	s->base.pMethods = &io;
	return DISK_OK;
}

/* What is deleted stays so after a power cut: file systems keep the order of such changes. */
static int shim_delete(disk_vfs *v, const char *path, int sync) {
	disk *d = disk_of(path);
	if (d) disk_forget(d, path);
	return real_vfs->xDelete(real_vfs, path, sync);
}

/* errno is of the thread that asks, and says nothing of a fault that was made up: with it,
 * the text of an error would depend on what else the thread has done. */
static int shim_last_error(disk_vfs *v, int n, char *text) { return 0; }

int disk_install(void) {
	if ((real_vfs = sqlite3_vfs_find(NULL)) == NULL) return 1;
	static const disk_io methods = {
		3, shim_close, shim_read, shim_write, shim_truncate, shim_sync, shim_size, shim_lock, shim_unlock, shim_reserved,
		shim_control, shim_sector, shim_traits, shim_shm_map, shim_shm_lock, shim_shm_barrier, shim_shm_unmap, shim_fetch, shim_unfetch,
	};
	io = methods;
	vfs = *real_vfs;
	vfs.pNext = NULL;
	vfs.zName = "disk";
	vfs.szOsFile += sizeof(shim);
	vfs.xOpen = shim_open;
	vfs.xDelete = shim_delete;
	vfs.xGetLastError = shim_last_error;
	return sqlite3_vfs_register(&vfs, 1);
}

void *disk_new(const char *dir) {
	disk *d = calloc(1, sizeof *d);
	if (d == NULL || (d->dir = strdup(dir)) == NULL) abort();
	pthread_mutex_init(&d->mu, NULL);
	pthread_mutex_lock(&mu);
	d->next = disks;
	disks = d;
	pthread_mutex_unlock(&mu);
	return d;
}

void disk_free(void *p) {
	disk *d = p;
	pthread_mutex_lock(&mu);
	disk **at = &disks;
	while (*at != d) at = &(*at)->next;
	*at = d->next;
	pthread_mutex_unlock(&mu);
	while (d->nodes) {
		node *n = d->nodes;
		d->nodes = n->next;
		clean(n);
		free(n->path);
		free(n);
	}
	pthread_mutex_destroy(&d->mu);
	free(d->dir);
	free(d);
}

void disk_fail(void *p, int ops, int after, int times, int full, int torn) {
	disk *d = p;
	pthread_mutex_lock(&d->mu);
	d->ops = ops;
	d->after = after;
	d->times = times;
	d->full = full;
	d->torn = torn;
	d->failed = 0;
	pthread_mutex_unlock(&d->mu);
}

int disk_heal(void *p) {
	disk *d = p;
	pthread_mutex_lock(&d->mu);
	d->ops = 0;
	int failed = d->failed;
	pthread_mutex_unlock(&d->mu);
	return failed;
}

void disk_forget(void *p, const char *path) {
	disk *d = p;
	pthread_mutex_lock(&d->mu);
	node *n = find(d, path, 0);
	if (n) clean(n);
	pthread_mutex_unlock(&d->mu);
}

/* splitmix64 */
static unsigned long long next(unsigned long long *s) {
	unsigned long long z = *s += 0x9e3779b97f4a7c15ULL;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

int disk_cut(void *p, const char *path, const char *to, unsigned long long seed, int keep) {
	disk *d = p;
	FILE *in = fopen(path, "rb"), *out = fopen(to, "wb");
	int rc = in && out ? 0 : -1;
	pthread_mutex_lock(&d->mu);
	node *n = find(d, path, 0);
	long long limit = -1; /* the size that the file has; -1: its last sector's */
	if (n && n->synced >= 0 && (int)(next(&seed) % 1000) >= keep) limit = n->synced;
	unsigned char now[SECTOR];
	for (long long i = 0; rc == 0; i++) {
		int got = (int)fread(now, 1, SECTOR, in);
		unsigned char *old = n && i < n->count ? n->sectors[i].old : NULL;
		if (got == 0 && (limit < 0 || i * SECTOR >= limit)) break;
		const unsigned char *is = now;
		/* What was cut off the file is there again where the file is as long as it was. */
		if (old && (got == 0 || n->sectors[i].dropped || (int)(next(&seed) % 1000) >= keep)) is = old;
		else if (got < SECTOR) memset(now + got, 0, SECTOR - got);
		long long size = is == old || limit >= 0 ? SECTOR : got;
		if (limit >= 0 && limit - i * SECTOR < size) size = limit - i * SECTOR;
		if (size <= 0) break;
		if (fwrite(is, 1, size, out) != (size_t)size) rc = -1;
	}
	pthread_mutex_unlock(&d->mu);
	if (in) fclose(in);
	if (out && fclose(out) != 0) rc = -1;
	return rc;
}

int disk_failed(void *p) {
	disk *d = p;
	pthread_mutex_lock(&d->mu);
	int failed = d->failed;
	pthread_mutex_unlock(&d->mu);
	return failed;
}
