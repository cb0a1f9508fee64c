// Package disk puts faults under SQLite, for simulations: reads, writes and syncs that
// fail, full disks, and power cuts.
//
//	d, err := disk.New(dir) // all files under dir that SQLite opens from now on
//	d.Fail(disk.Fault{Ops: disk.Sync, After: 3, Times: 1})
//	failed := d.Heal()
//	err = d.Cut(path, copy, seed, 0.5) // what a power cut would leave of a file
//
// The first New makes a shim the process's default file system of SQLite, so that all code
// runs on it as it is.
package disk

/*
#cgo CFLAGS: -std=gnu11 -Wall -Wno-unused-parameter
#cgo darwin LDFLAGS: -Wl,-undefined,dynamic_lookup
#include <stdlib.h>
#include "vfs.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// An Op is a kind of operation.
type Op int

// The kinds, which may be added up. Write includes shortening a file.
const (
	Read  Op = C.DISK_READ
	Write Op = C.DISK_WRITE
	Sync  Op = C.DISK_SYNC
)

// A Fault says which operations fail.
type Fault struct {
	Ops   Op
	After int  // so many of Ops go well first
	Times int  // so many fail then
	Full  bool // writes fail since the disk is full
	Torn  bool // half of a failing write is done
}

// A Disk is the files under one directory.
type Disk struct{ p unsafe.Pointer }

var install = sync.OnceValue(func() error {
	if rc := C.disk_install(); rc != 0 {
		return fmt.Errorf("disk: register a file system: %w", sqlite3.ErrNo(rc))
	}
	return nil
})

// New makes a disk of a directory. No file under it may be open.
func New(dir string) (*Disk, error) {
	if err := install(); err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	name := C.CString(dir + string(filepath.Separator))
	defer C.free(unsafe.Pointer(name))
	return &Disk{C.disk_new(name)}, nil
}

// Close ends the disk. SQLite must have closed its files.
func (d *Disk) Close() {
	C.disk_free(d.p)
	d.p = nil
}

// Fail begins a fault, in the place of an older one.
func (d *Disk) Fail(f Fault) {
	C.disk_fail(d.p, C.int(f.Ops), C.int(f.After), C.int(f.Times), flag(f.Full), flag(f.Torn))
}

// Failed returns how many operations have failed since Fail.
func (d *Disk) Failed() int { return int(C.disk_failed(d.p)) }

// Heal ends a fault, and returns how many operations it let fail.
func (d *Disk) Heal() (failed int) { return int(C.disk_heal(d.p)) }

// Forget takes a file as it is as synced: it was put there by other means than SQLite.
func (d *Disk) Forget(path string) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	C.disk_forget(d.p, name)
}

// Cut writes what a power cut at this moment would leave of a file. Each sector of 512
// bytes that was written since the file's last sync is in it with a probability of keep, else
// as it was; so is the file's size. What a failed sync has left out is never in it.
func (d *Disk) Cut(path, to string, seed uint64, keep float64) error {
	from, dest := C.CString(path), C.CString(to)
	defer C.free(unsafe.Pointer(from))
	defer C.free(unsafe.Pointer(dest))
	if C.disk_cut(d.p, from, dest, C.ulonglong(seed), C.int(keep*1000)) != 0 {
		return errors.New("disk: can't copy " + path + " to " + to)
	}
	return nil
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
