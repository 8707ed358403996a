package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"sallyport/audit"
	"sallyport/audit/export"
	"sallyport/audit/filter"
	"sallyport/gateway/admin"
)

type auditExportCommand struct {
	recordFilter
	Format        string   `help:"How to write: jsonl is one JSON object a line, csv RFC 4180, ocsf OCSF 1.8 events, cef ArcSight's Common Event Format, syslog RFC 5424." enum:"jsonl,csv,ocsf,cef,syslog" default:"jsonl"`
	Out           string   `short:"o" help:"Write to this file, which appears when it is complete. Default: standard output." placeholder:"FILE" type:"path"`
	Disclose      bool     `help:"Leave e-mail and IP addresses, user agents and queries as they are; jsonl then holds the records' own bytes. It takes a permission, and is on record."`
	PseudonymKey  string   `help:"A file with a secret, at least 16 bytes: equal redacted values become equal pseudonyms under it." placeholder:"FILE" type:"path"`
	Columns       []string `help:"The columns of csv. Default: all." placeholder:"NAME"`
	Message       string   `help:"What a syslog message holds: jsonl or cef." enum:"jsonl,cef" default:"jsonl"`
	OctetCounting bool     `help:"Frame syslog messages by their length (RFC 6587) instead of by lines."`
	Resume        string   `help:"Go on behind what an export with this file wrote before, and keep in it how far this one comes." placeholder:"FILE" type:"path"`
}

func (c *auditExportCommand) Run(in *invocation) error {
	chosen, err := c.filter(time.Now(), "")
	if err != nil {
		return err
	}
	options := export.Options{Disclose: c.Disclose, Version: version, Columns: c.Columns, Message: c.Message, OctetCounting: c.OctetCounting}
	if options.Key, err = pseudonymKey(c.PseudonymKey); err != nil {
		return err
	}
	if _, err := export.NewEncoder(c.Format, options); err != nil {
		return err
	}
	begin, err := readCursor(c.Resume, c.Log)
	if err != nil {
		return err
	}
	reading := admin.Reading{Command: "export", Log: c.Log, Filter: c.described(), Disclose: c.Disclose}
	places, err := in.announce(reading)
	if err != nil {
		return err
	}
	log, err := audit.OpenReader(places.Audit.Dir, c.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	out, err := openOutput(in.out, c.Out)
	if err != nil {
		return err
	}
	writer, err := export.New(c.Format, out, options)
	if err != nil {
		return errors.Join(err, out.abandon())
	}
	bar := newProgress(in.errOut)
	summary, err := export.Run(in.ctx, chosenFrom(in.ctx, log, chosen, begin), writer, export.RunOptions{Progress: func(s export.Summary) { bar.count(s.Records) }})
	bar.close()
	if err != nil {
		return errors.Join(err, out.abandon())
	}
	if err := out.complete(); err != nil {
		return err
	}
	if c.Resume == "" || summary.Records == 0 {
		return nil
	}
	return writeWhole(c.Resume, []byte(summary.Cursor.String()+"\n"))
}

// chosenFrom yields what a filter chooses from seq on, without decoding more of each record than the filter asks for. It ends
// at what was recorded when it began, so that an export beside a busy gateway ends.
func chosenFrom(ctx context.Context, log *audit.Reader, chosen *filter.Filter, from uint64) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		bounds, err := log.Bounds()
		if err != nil {
			yield(audit.Entry{}, err)
			return
		}
		narrow := chosen.Audit()
		end := bounds.Next
		if narrow.ToSeq > 0 {
			end = min(end, narrow.ToSeq)
		}
		for line, err := range log.Lines(ctx, max(from, narrow.FromSeq)) {
			if err != nil {
				yield(audit.Entry{}, err)
				return
			}
			if line.Seq >= end {
				return
			}
			if chosen.MatchesRaw(line.Raw) && !yield(audit.Entry{Raw: bytes.Clone(line.Raw), Position: line.Position}, nil) {
				return
			}
		}
	}
}

// minKey keeps pseudonyms from being guessed.
const minKey = 16

func pseudonymKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key of pseudonyms: %w", err)
	}
	if key = bytes.TrimSpace(key); len(key) < minKey {
		return nil, fmt.Errorf("%s holds fewer than %d bytes: pseudonyms could be guessed", path, minKey)
	}
	return key, nil
}

// readCursor tells where an export goes on; 0 where it begins.
func readCursor(path, log string) (uint64, error) {
	if path == "" {
		return 0, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading how far the last export came: %w", err)
	}
	cursor, err := export.ParseCursor(string(bytes.TrimSpace(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if cursor.Log != log {
		return 0, fmt.Errorf("%s is of the %s log, this export of the %s log", path, cursor.Log, log)
	}
	return cursor.Next, nil
}

// output is standard output, or a file that gets its name when it is complete.
type output struct {
	io.Writer
	file *os.File // nil for standard output
	path string
}

func openOutput(standard io.Writer, path string) (*output, error) {
	if path == "" {
		return &output{Writer: standard}, nil
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, err)
	}
	return &output{Writer: file, file: file, path: path}, nil
}

// complete gives the file its name.
func (o *output) complete() error {
	if o.file == nil {
		return nil
	}
	err := o.file.Sync()
	if err = errors.Join(err, o.file.Close()); err == nil {
		err = os.Rename(o.file.Name(), o.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", o.path, err), os.Remove(o.file.Name()))
	}
	return nil
}

// abandon removes what was written of the file.
func (o *output) abandon() error {
	if o.file == nil {
		return nil
	}
	return errors.Join(o.file.Close(), os.Remove(o.file.Name()))
}

// writeWhole replaces a small file, by rename.
func writeWhole(path string, text []byte) error {
	out, err := openOutput(nil, path)
	if err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return errors.Join(err, out.abandon())
	}
	return out.complete()
}
