package sink

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"sallyport/audit"
)

// folder is where the cursors are within the audit directory.
const folder = "sinks"

// errCursor says that a cursor's file does not hold what a sink has written.
var errCursor = errors.New("the cursor is damaged")

// place is how far a sink has shipped: for each log the seq of the first record that is not delivered. A log that it never
// touched is absent.
type place map[string]uint64

// cursorFile is the durable place of one sink. It is replaced as a whole and belongs to one goroutine.
type cursorFile struct {
	fs   audit.FileSystem
	name string
}

const (
	cursorHead = "sallyport sink cursor 1\n"
	maxCursor  = 4 << 10
)

// load reads the place; nil when the sink has none yet, errCursor when it cannot be told.
func (c cursorFile) load() (place, error) {
	f, err := c.fs.OpenFile(c.path(), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cursor: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxCursor))
	if err != nil {
		return nil, fmt.Errorf("reading the cursor: %w", err)
	}
	return parsePlace(string(text))
}

// save makes the place durable: it is written beside the old one, synced, renamed, and the name is synced.
func (c cursorFile) save(p place) error {
	if err := c.replace(p); err != nil {
		return fmt.Errorf("writing the cursor: %w", err)
	}
	return nil
}

func (c cursorFile) replace(p place) error {
	if err := c.fs.MkdirAll(folder); err != nil {
		return err
	}
	temporary := c.path() + ".tmp"
	f, err := c.fs.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(p.text(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := c.fs.Rename(temporary, c.path()); err != nil {
		return err
	}
	return c.fs.SyncDir(folder)
}

// create makes the folder durable, once per run.
func (c cursorFile) create() error {
	if err := c.fs.MkdirAll(folder); err != nil {
		return fmt.Errorf("creating the folder of cursors: %w", err)
	}
	if err := c.fs.SyncDir("."); err != nil {
		return fmt.Errorf("creating the folder of cursors: %w", err)
	}
	return nil
}

func (c cursorFile) path() string { return path.Join(folder, c.name+".cursor") }

// text is a line per log, between a first line that names the form and a last one with the CRC-32C of all before it.
func (p place) text() []byte {
	b := []byte(cursorHead)
	for _, log := range []string{audit.DecisionLog, audit.ControlLog} {
		if next, ok := p[log]; ok {
			b = fmt.Appendf(b, "%s %d\n", log, next)
		}
	}
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parsePlace accepts exactly what text writes.
func parsePlace(text string) (place, error) {
	body, ok := strings.CutPrefix(text, cursorHead)
	at := strings.LastIndex(body, "crc32c ")
	if !ok || at < 0 {
		return nil, errCursor
	}
	p := place{}
	for line := range strings.Lines(body[:at]) {
		log, number, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		next, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return nil, errCursor
		}
		p[log] = next
	}
	if string(p.text()) != text {
		return nil, errCursor
	}
	return p, nil
}
