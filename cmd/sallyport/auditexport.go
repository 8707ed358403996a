package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	Resume        string   `help:"Go on behind what the same export with this file wrote before, in the same --out, and keep in it how far this one comes." placeholder:"FILE" type:"path"`
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
	encoder, err := export.NewEncoder(c.Format, options)
	if err != nil {
		return err
	}
	reading := admin.Reading{Command: "export", Log: c.Log, Filter: c.described(), Disclose: c.Disclose}
	places, err := in.announce(reading)
	if err != nil {
		return err
	}
	begin, err := c.resumed(places.Audit.Origin, chosen)
	if err != nil {
		return err
	}
	if begin.Next > 0 {
		encoder = headless{encoder} // the head is there
	}
	log, err := audit.OpenReader(places.Audit.Dir, c.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	if bounds, err := log.Bounds(); err != nil || begin.Next > bounds.Next {
		return errors.Join(err, fmt.Errorf("%s says that the last export came to record %d, and the log does not reach that far: it is of another log, or of one that was put back", c.Resume, begin.Next))
	}
	out, err := c.open(in.out, begin)
	if err != nil {
		return err
	}
	bar := newProgress(in.errOut)
	summary, err := export.Run(in.ctx, chosenFrom(in.ctx, log, chosen, begin.Next), export.NewWriter(out, encoder), export.RunOptions{Progress: func(s export.Summary) { bar.count(s.Records) }})
	bar.close()
	if err != nil {
		return errors.Join(err, out.abandon())
	}
	if err := out.complete(); err != nil {
		return err
	}
	if failed, why := chosen.Failures(); failed > 0 {
		fmt.Fprintf(in.errOut, "--where could not be asked of %d records, which are left out; of one: %s\n", failed, inert(why.Error()))
	}
	return c.keep(begin, summary)
}

// open opens what is written to. A file that an export goes on in is cut to what that export had finished.
func (c *auditExportCommand) open(standard io.Writer, begin progressOfExport) (*output, error) {
	if c.Out == "" || c.Resume == "" {
		return openOutput(standard, c.Out)
	}
	flags := os.O_WRONLY
	if begin.Next == 0 {
		flags |= os.O_CREATE | os.O_EXCL
	}
	file, err := os.OpenFile(c.Out, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--resume goes on in the file that it began: %w", err)
	}
	if info, err := file.Stat(); err != nil || info.Size() < begin.Bytes {
		return nil, errors.Join(fmt.Errorf("%s is shorter than what was exported to it: begin anew, with other files", c.Out), file.Close())
	}
	if err = file.Truncate(begin.Bytes); err == nil {
		_, err = file.Seek(begin.Bytes, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("going on in %s: %w", c.Out, err), file.Close())
	}
	return &output{Writer: file, file: file}, nil
}

// progressOfExport is what the file of --resume holds: how far an export came, and which one it was.
type progressOfExport struct {
	Export string `json:"export"` // digest of all that decides what is written
	Log    string `json:"log"`
	Next   uint64 `json:"next"`  // seq to go on with
	Bytes  int64  `json:"bytes"` // of --out that are finished
}

// resumed tells where an export goes on. One with other arguments is another export.
func (c *auditExportCommand) resumed(origin string, chosen *filter.Filter) (p progressOfExport, err error) {
	fresh := progressOfExport{Export: c.digest(origin, chosen), Log: c.Log}
	if c.Resume == "" {
		return fresh, nil
	}
	if c.Since != 0 {
		return fresh, errors.New("--since moves on by itself: with --resume, give --from or neither")
	}
	text, err := os.ReadFile(c.Resume)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return fresh, fmt.Errorf("reading how far the last export came: %w", err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return fresh, fmt.Errorf("%s does not say how far an export came: %w", c.Resume, err)
	}
	if p.Export != fresh.Export || p.Log != c.Log {
		return fresh, fmt.Errorf("%s is of an export with other arguments: each needs a file of its own", c.Resume)
	}
	return p, nil
}

func (c *auditExportCommand) digest(origin string, chosen *filter.Filter) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []any{origin, c.Log, c.Format, c.Out, c.Disclose, c.PseudonymKey, c.Columns, c.Message, c.OctetCounting, chosen.String()}))
	return hex.EncodeToString(sum[:])
}

// keep writes down how far this export came.
func (c *auditExportCommand) keep(begin progressOfExport, done export.Summary) error {
	if c.Resume == "" {
		return nil
	}
	if done.Records > 0 {
		begin.Next = done.Cursor.Next
	}
	if c.Out != "" {
		info, err := os.Stat(c.Out)
		if err != nil {
			return err
		}
		begin.Bytes = info.Size()
	}
	text, err := json.Marshal(begin)
	if err != nil {
		return err
	}
	return writeWhole(c.Resume, append(text, '\n'))
}

// headless leaves out what comes before the first record.
type headless struct{ export.Encoder }

// Header is nothing.
func (headless) Header() []byte { return nil }

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

// output is standard output, or a file that gets its name when it is complete.
type output struct {
	io.Writer
	file *os.File // nil for standard output
	path string   // the name to be; empty for a file that goes on
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
	err := errors.Join(o.file.Sync(), o.file.Close())
	if o.path == "" {
		return err // it has it already
	}
	if err == nil {
		err = os.Rename(o.file.Name(), o.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", o.path, err), os.Remove(o.file.Name()))
	}
	return nil
}

// abandon removes what was written of the file.
func (o *output) abandon() error {
	switch {
	case o.file == nil:
		return nil
	case o.path == "":
		return o.file.Close()
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
