package acme

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// folder is where chains and what must survive a restart are kept. Nothing in it is secret.
type folder struct{ root *os.Root }

// openFolder opens a folder that nobody but its owner can write.
func openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening tls.acme.dir: %w", err)
	}
	info, err := root.Stat(".")
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("%s is writable by others: chmod go-w", dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening tls.acme.dir: %w", err), root.Close())
	}
	return &folder{root}, nil
}

// Chains is the pattern of the chain files.
func (c *Config) Chains() string { return filepath.Join(c.Dir, "*.pem") }

// fileOf is a host's file name without its ending. No host has an underscore.
func fileOf(host string) string { return strings.ReplaceAll(host, "*", "_") }

// read returns a file of bounded size.
func (f *folder) read(name string) ([]byte, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxAnswer)
	}
	return text, err
}

// write replaces a file as a whole, durably. Chains are public and the rest is nobody's secret, so all may read.
func (f *folder) write(name string, text []byte) error {
	next := "." + name + ".next"
	if err := f.root.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := f.root.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := f.root.Rename(next, name); err != nil {
		return err
	}
	dir, err := f.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// load reads JSON; a file that is not there leaves value alone.
func (f *folder) load(name string, value any) error {
	text, err := f.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	return nil
}

func (f *folder) store(name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return f.write(name, append(text, '\n'))
}

func (f *folder) close() error { return f.root.Close() }

// memory is what is known of a host from one start to the next.
type memory struct {
	// Directory is the authority that the chain in the folder is from; from another one, it is replaced.
	Directory string `json:"directory,omitzero"`
	// RenewAt is when the chain is to be replaced if the authority does not say otherwise.
	RenewAt time.Time `json:"renew_at,omitzero"`
	// Obtained is when the chain came, and Early how many in a row came before their time because the authority said so.
	Obtained time.Time `json:"obtained,omitzero"`
	Early    int       `json:"early,omitzero"`
	// Waiting is what is to be told of the chain once it is in effect; Failed: it is, or there is none.
	Waiting Outcome `json:"waiting,omitzero"`
	// Revoked is set from the revocation of the chain until there is another one.
	Revoked bool `json:"revoked,omitzero"`
	// Advice is what the authority said otherwise (RFC 9773).
	Advice advice `json:"advice,omitzero"`
	// Attempts are the times of the last attempts, of 24 hours at most.
	Attempts []time.Time `json:"attempts,omitzero"`
	// Failures counts those since the last success; FailedAt is when, Reason and Why what the last one was.
	Failures int       `json:"failures,omitzero"`
	FailedAt time.Time `json:"failed_at,omitzero"`
	Reason   string    `json:"reason,omitzero"`
	Why      string    `json:"why,omitzero"`
	// RetryAt is when the next attempt may be made.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// Order is what is under way.
	Order *order `json:"order,omitzero"`
}

// forgive forgets failures, once something has succeeded.
func (m *memory) forgive() {
	m.Failures, m.FailedAt, m.Reason, m.Why, m.RetryAt = 0, time.Time{}, "", "", time.Time{}
}

// order is a certificate that is being asked for: with it, an attempt that was cut off is finished by the next one.
type order struct {
	Directory string    `json:"directory"`
	Key       string    `json:"key"` // id of the key in keyd
	CSR       []byte    `json:"csr"`
	URL       string    `json:"url,omitzero"` // absent until the authority has taken the order
	Made      time.Time `json:"made"`
}

// advice is when the authority would have a certificate renewed.
type advice struct {
	Serial     string    `json:"serial,omitzero"` // of the certificate that it is about
	Start      time.Time `json:"start,omitzero"`
	End        time.Time `json:"end,omitzero"`
	Selected   time.Time `json:"selected,omitzero"` // a time in between, by chance
	AskAgainAt time.Time `json:"ask_again_at,omitzero"`
	URL        string    `json:"url,omitzero"` // where the authority explains itself
}

// accountMemory is the account at an authority.
type accountMemory struct {
	Directory string `json:"directory"`
	Key       string `json:"key"` // id of its key in keyd
	Location  string `json:"location"`
}
