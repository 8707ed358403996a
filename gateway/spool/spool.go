// Package spool lets bodies wait at the gateway, so that neither a slow client nor a slow upload holds an app.
//
// An answer is drained from the app at the app's speed and read by the client at the client's (Response, Reader); a
// request's body is taken in as a whole before an app is asked for anything, and can be sent again (Request, Body). What
// waits is in memory up to a limit per body and in all, then in temporary files without a name up to limits of their own,
// and then, for answers, nowhere: the app is read only as fast as the client reads.
//
// Nothing here may lose or change a byte. A full disk, a failing disk or a folder that went away makes answers as slow as
// their clients, never wrong; a file that cannot be read back breaks its answer off.
//
// Files are made with O_TMPFILE, so there is never a name, and nobody else on the machine can open them, nor are they
// left over after a crash. Where the file system knows no O_TMPFILE they are created with mode 0600 under a random
// name that is removed at once. What waits in them is as secret as the apps' answers: put spool.dir on an encrypted disk
// where that matters.
package spool

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/gateway/units"
)

// Config is how much may wait, and where.
type Config struct {
	// Dir is the folder of the temporary files, which have no name in it. Default /var/tmp, which is on a disk on most
	// systems, while /tmp often is memory.
	Dir string `yaml:"dir" default:"/var/tmp" config:"path"`
	// Memory is how much memory all waiting bodies may use together. A quarter of it is kept for bodies on their way to
	// a file. Default 64MiB.
	Memory units.Bytes `yaml:"memory" default:"64MiB"`
	// PerBody is how much memory one waiting body may use; at least one buffer of 16KiB is. Default 256KiB.
	PerBody units.Bytes `yaml:"per_body" default:"256KiB"`
	// Disk is how much all files may hold together. 0 makes no files: answers that do not fit in memory are taken from
	// the app at the speed of the client, and requests that do not fit are refused with 503. Default 16GiB.
	Disk units.Bytes `yaml:"disk" default:"16GiB"`
	// BodyDisk is how much of one body a file may hold. Default 4GiB.
	BodyDisk units.Bytes `yaml:"body_disk" default:"4GiB"`
}

// Check reports what is wrong with the limits by themselves.
func (c *Config) Check() error {
	if c.PerBody > c.Memory {
		return errors.New("per_body is larger than memory, which is for all bodies together")
	}
	if c.Disk > 0 && c.Dir == "" {
		return errors.New("dir is needed where disk is not 0")
	}
	return nil
}

var (
	// ErrFull says that a request's body found no room: limits are reached, or the disk is full.
	ErrFull = errors.New("spool is full")
	// ErrTooLarge says that a request's body is larger than its caller allows.
	ErrTooLarge = errors.New("body is larger than allowed")
	// ErrClosed is what a Reader or Body says after Close.
	ErrClosed = errors.New("spooled body is closed")
)

// Spooler holds the limits and what is used of them. All methods are safe for concurrent use.
type Spooler struct {
	settings atomic.Pointer[settings]
	memory   budget
	disk     budget
	bodies   atomic.Int64
	files    atomic.Int64
	stalled  atomic.Int64
	failures atomic.Uint64
	fillers  sync.WaitGroup
	retry    time.Duration // how long a stalled answer waits before it looks for room that others left
}

// settings are one configuration; bodies look at the latest each time they ask for room.
type settings struct {
	memory, perBody, disk, bodyDisk int64
	folder                          folder
}

// retryPeriod is short for a person and long for a machine. The client's own progress is noticed at once.
const retryPeriod = 200 * time.Millisecond

// New makes a Spooler. A folder in which no file can be made is an error.
func New(cfg Config) (*Spooler, error) {
	s := &Spooler{retry: retryPeriod}
	if err := s.Configure(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// Configure changes limits and folder. Bodies that wait already stay where they are; more than is allowed now drains
// by itself. After an error nothing has changed.
func (s *Spooler) Configure(cfg Config) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	next := &settings{memory: int64(cfg.Memory), perBody: int64(cfg.PerBody), disk: int64(cfg.Disk), bodyDisk: int64(cfg.BodyDisk), folder: noFolder{}}
	if cfg.Disk > 0 {
		dir, err := openFolder(cfg.Dir)
		if err != nil {
			return fmt.Errorf("spool.dir is of no use (spool.disk: 0 does without): %w", err)
		}
		next.folder = dir
	}
	s.use(next)
	return nil
}

func (s *Spooler) use(next *settings) {
	if previous := s.settings.Swap(next); previous != nil {
		previous.folder.Close()
	}
}

// Close waits for the answers that are still being drained, whose Readers or contexts must have ended, and closes the
// folder. Nothing may be spooled afterwards.
func (s *Spooler) Close() error {
	s.fillers.Wait()
	return s.settings.Load().folder.Close()
}

// Stats is what a Spooler holds at one moment.
type Stats struct {
	Bodies   int64  `json:"bodies"`       // answers and requests' bodies that are held
	Files    int64  `json:"files"`        // how many of them have a file
	Memory   int64  `json:"memory_bytes"` // used
	Disk     int64  `json:"disk_bytes"`   // used
	Stalled  int64  `json:"stalled"`      // answers that wait for their client because no room is left
	Failures uint64 `json:"failures"`     // files that could not be made, written or read, since the start
}

// Stats reports what is held.
func (s *Spooler) Stats() Stats {
	return Stats{Bodies: s.bodies.Load(), Files: s.files.Load(), Memory: s.memory.used.Load(), Disk: s.disk.used.Load(),
		Stalled: s.stalled.Load(), Failures: s.failures.Load()}
}
