package store

import (
	"database/sql/driver"
	"fmt"

	"github.com/velosync/velosync/capture/change"
	vsql "github.com/velosync/velosync/sql"
)

// A device is what a space knows of a device id.
type device struct {
	site    int64 // its number in dots; 0: not known yet
	id      change.DeviceID
	owner   Owner
	name    change.Name // of the last push applied
	lsn     change.LSN  // its log is applied up to here
	acked   change.Seq
	heard   change.LSN // it knows that its log is applied up to here
	served  change.Seq // it was sent everything up to here
	put     int64      // unix ms of its last push
	contact int64      // unix ms of its last push or ack
	horizon change.Seq // the space's when the device's pull began; not in the file
	pulling bool       // horizon is set
}

const selectDevices = `SELECT site, id, owner, name, lsn, acked, heard, served, put, contact FROM _velosync_device `

// scan reads a row of selectDevices.
func (d *device) scan(row []driver.Value) error {
	if !readID(row[1], d.id[:]) || !readID(row[3], d.name[:]) {
		return fmt.Errorf("device %v: its id or name has not 16 bytes", row[0])
	}
	d.site, d.owner, d.lsn = row[0].(int64), Owner(row[2].(string)), change.LSN(row[4].(int64))
	d.acked, d.heard, d.served = change.Seq(row[5].(int64)), change.LSN(row[6].(int64)), change.Seq(row[7].(int64))
	d.put, d.contact = row[8].(int64), row[9].(int64)
	return nil
}

// readDevice reads a device by its site.
func readDevice(c *vsql.Conn, site int64) (d device, err error) {
	err = c.Query(selectDevices+`WHERE site = ?`, []driver.Value{site}, d.scan)
	return d, err
}

// readDevices reads all devices, by site.
func readDevices(c *vsql.Conn) (devices []device, err error) {
	err = c.Query(selectDevices+`ORDER BY site`, nil, func(row []driver.Value) error {
		var d device
		if err := d.scan(row); err != nil {
			return err
		}
		if d.site != int64(len(devices))+1 {
			return fmt.Errorf("device %v is number %d, want %d", d.id, d.site, len(devices)+1)
		}
		devices = append(devices, d)
		return nil
	})
	return devices, err
}

func readID(v driver.Value, id []byte) bool {
	b, ok := v.([]byte)
	return ok && copy(id, b) == len(id) && len(b) == len(id)
}

// check refuses an id that belongs to somebody else. Where tokens are not asked for,
// everybody may speak for every device; the first token that names such a device keeps
// it.
func (d *device) check(owner Owner) error {
	if d.owner != "" && owner != "" && d.owner != owner {
		return &OwnerError{Device: d.id}
	}
	return nil
}

// limit returns what the device can have seen: what it was sent, and what it had seen
// when it came. One that is new here may be a copied file, which takes a new id and
// keeps its seen, so anything up to head is believed.
func (d *device) limit(head change.Seq) change.Seq {
	if d.site == 0 {
		return head
	}
	return min(d.served, head)
}
