/* SQLite's interface to a file system, declared by hand as sqlfuncs/sqlite_api.h does, and
 * what this package adds to it. TestLayout compares it with go-sqlite3's header. */
#ifndef DISK_VFS_H
#define DISK_VFS_H

#define DISK_WEAK __attribute__((weak))

typedef long long int disk_int64;
typedef struct disk_file disk_file;
typedef struct disk_vfs disk_vfs;

typedef struct disk_io {
	int iVersion;
	int (*xClose)(disk_file *);
	int (*xRead)(disk_file *, void *, int, disk_int64);
	int (*xWrite)(disk_file *, const void *, int, disk_int64);
	int (*xTruncate)(disk_file *, disk_int64);
	int (*xSync)(disk_file *, int);
	int (*xFileSize)(disk_file *, disk_int64 *);
	int (*xLock)(disk_file *, int);
	int (*xUnlock)(disk_file *, int);
	int (*xCheckReservedLock)(disk_file *, int *);
	int (*xFileControl)(disk_file *, int, void *);
	int (*xSectorSize)(disk_file *);
	int (*xDeviceCharacteristics)(disk_file *);
	int (*xShmMap)(disk_file *, int, int, int, void volatile **);
	int (*xShmLock)(disk_file *, int, int, int);
	void (*xShmBarrier)(disk_file *);
	int (*xShmUnmap)(disk_file *, int);
	int (*xFetch)(disk_file *, disk_int64, int, void **);
	int (*xUnfetch)(disk_file *, disk_int64, void *);
} disk_io;

struct disk_file {
	const disk_io *pMethods;
};

struct disk_vfs {
	int iVersion;
	int szOsFile;
	int mxPathname;
	disk_vfs *pNext;
	const char *zName;
	void *pAppData;
	int (*xOpen)(disk_vfs *, const char *, disk_file *, int, int *);
	int (*xDelete)(disk_vfs *, const char *, int);
	int (*xAccess)(disk_vfs *, const char *, int, int *);
	int (*xFullPathname)(disk_vfs *, const char *, int, char *);
	void *(*xDlOpen)(disk_vfs *, const char *);
	void (*xDlError)(disk_vfs *, int, char *);
	void (*(*xDlSym)(disk_vfs *, void *, const char *))(void);
	void (*xDlClose)(disk_vfs *, void *);
	int (*xRandomness)(disk_vfs *, int, char *);
	int (*xSleep)(disk_vfs *, int);
	int (*xCurrentTime)(disk_vfs *, double *);
	int (*xGetLastError)(disk_vfs *, int, char *);
	int (*xCurrentTimeInt64)(disk_vfs *, disk_int64 *);
	int (*xSetSystemCall)(disk_vfs *, const char *, void (*)(void));
	void (*(*xGetSystemCall)(disk_vfs *, const char *))(void);
	const char *(*xNextSystemCall)(disk_vfs *, const char *);
};

/* Result codes. */
#define DISK_OK 0
#define DISK_FULL 13
#define DISK_IOERR_READ (10 | (1 << 8))
#define DISK_IOERR_WRITE (10 | (3 << 8))
#define DISK_IOERR_FSYNC (10 | (4 << 8))
#define DISK_IOERR_TRUNCATE (10 | (6 << 8))

/* What can fail. */
#define DISK_READ 1
#define DISK_WRITE 2
#define DISK_SYNC 4

/* disk_install makes the file system below the default one of the process, once. It
 * returns a result code. */
int disk_install(void);

/* disk_new begins a disk: the files under dir, a path with a slash at its end, that are
 * opened from now on. */
void *disk_new(const char *dir);

/* disk_free ends a disk. Its files must be closed. */
void disk_free(void *disk);

/* disk_fail lets operations of the given kinds fail: after `after` of them, `times` do. A
 * write fails with full or with an I/O error; a torn one writes its first half. */
void disk_fail(void *disk, int ops, int after, int times, int full, int torn);

/* disk_failed returns how many operations have failed of that. */
int disk_failed(void *disk);

/* disk_heal ends it, and returns the same. */
int disk_heal(void *disk);

/* disk_forget takes a file as it is as what the disk holds: it was put there otherwise. */
void disk_forget(void *disk, const char *path);

/* disk_cut writes to another file what a power cut would leave of one: each sector written
 * since the last sync is new with a chance of keep in 1,000, else old. It returns 0, or -1 when
 * a file can't be read or written. */
int disk_cut(void *disk, const char *path, const char *to, unsigned long long seed, int keep);

#endif
