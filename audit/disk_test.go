package audit

import (
	"errors"
	"io"
	"math/rand/v2"

	"sallyport/audit/audittest"
)

// sector is what a disk writes whole or not at all, in bytes.
const sector = 512

// errPower is what a machine answers that has stopped.
var errPower = audittest.ErrPower

// disk is a disk that may lose power.
type disk struct{ *audittest.Disk }

func newDisk(rnd *rand.Rand) *disk { return &disk{audittest.NewDisk(rnd)} }

func (d *disk) boot(ops int, cut bool) *machine { return &machine{d.Boot(ops, cut), d} }
func (d *disk) stop()                           { d.Stop() }

// machine is a FileSystem that lives until its disk loses power.
type machine struct {
	*audittest.Machine
	disk *disk
}

func (m *machine) setFault(fault func(op, name string) error) { m.SetFault(fault) }
func (m *machine) changes() int                               { return m.Changes() }
func (m *machine) alive() error                               { return m.Alive() }
func (m *machine) beside() *machine                           { return &machine{m.Beside(), m.disk} }

func (m *machine) OpenFile(name string, flag int) (File, error) {
	f, err := m.Machine.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (m *machine) Lock(name string) (io.Closer, error) {
	l, err := m.Machine.Lock(name)
	if errors.Is(err, audittest.ErrHeld) {
		return nil, ErrLocked
	}
	return l, err
}
