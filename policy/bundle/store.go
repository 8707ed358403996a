package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Store is what a gateway remembers about its policies from one run to the next: which one an operator pinned, which
// ones were in force and why, and the last good bundle that was fetched. It is a folder that one process writes. Methods
// may run at once; what they write is durable when they return.
type Store struct {
	root *os.Root
	mu   sync.Mutex
}

// Pin holds a policy in force, whatever the configuration says.
type Pin struct {
	Digest string    `json:"digest"` // of the effective policy
	Why    string    `json:"why"`
	Who    string    `json:"who"`
	Since  time.Time `json:"since"`
}

// Activation is one policy that came into force.
type Activation struct {
	Digest   string    `json:"digest"`
	Revision string    `json:"revision,omitzero"` // the commit, where the bundle's manifest states one
	Review   string    `json:"review,omitzero"`   // digest of the review that the bundle's manifest names
	At       time.Time `json:"at"`
	Who      string    `json:"who"`
	Why      string    `json:"why"`
	Pinned   bool      `json:"pinned,omitzero"`
}

const (
	pinFile     = "pin.json"
	historyFile = "history.json"

	// maxHistory bounds the activations that are remembered; the control log has them all.
	maxHistory = 500
)

// OpenStore opens the folder, and makes it where it is not there, readable by its owner alone.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening policy store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening policy store: %w", err)
	}
	return &Store{root: root}, nil
}

// Close releases the folder.
func (s *Store) Close() error { return s.root.Close() }

// Pin is the pin in force, or nil. One that cannot be read is an error: to go on without it would put another policy in
// force than the one that an operator chose.
func (s *Store) Pin() (*Pin, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pin := new(Pin)
	if found, err := s.readLocked(pinFile, pin); !found || err != nil {
		return nil, err
	}
	return pin, nil
}

// SetPin replaces the pin; nil removes it.
func (s *Store) SetPin(pin *Pin) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pin != nil {
		return s.writeJSONLocked(pinFile, pin)
	}
	if err := s.root.Remove(pinFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing policy store: %w", err)
	}
	return s.syncLocked()
}

// History lists the activations, the newest last.
func (s *Store) History() ([]Activation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.historyLocked()
}

func (s *Store) historyLocked() ([]Activation, error) {
	var list []Activation
	_, err := s.readLocked(historyFile, &list)
	return list, err
}

// Note adds an activation. The policy that is in force already is not added again, unless it was pinned or let go.
func (s *Store) Note(a Activation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.historyLocked()
	if err != nil {
		return err
	}
	if n := len(list); n > 0 && list[n-1].Digest == a.Digest && list[n-1].Pinned == a.Pinned {
		return nil
	}
	list = append(list, a)
	return s.writeJSONLocked(historyFile, list[max(0, len(list)-maxHistory):])
}

// Before is the policy that was in force before the one in force came for the first time: rolling back twice leads back
// twice, and not to and fro. It is empty when nothing is remembered from before.
func Before(history []Activation, active string) string {
	for i, a := range history {
		if a.Digest != active {
			continue
		}
		if i == 0 {
			return ""
		}
		return history[i-1].Digest
	}
	if len(history) == 0 {
		return ""
	}
	return history[len(history)-1].Digest
}

func (s *Store) readLocked(name string, into any) (found bool, err error) {
	data, err := s.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return true, fmt.Errorf("reading policy store: %s: %w", name, err)
	}
	return true, nil
}

func (s *Store) writeJSONLocked(name string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		err = s.writeLocked(name, data)
	}
	if err != nil {
		return fmt.Errorf("writing policy store: %w", err)
	}
	return nil
}

// writeLocked replaces a file by rename: after a crash it is the old one or the new one.
func (s *Store) writeLocked(name string, data []byte) error {
	temporary := name + ".next"
	f, err := s.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.root.Rename(temporary, name); err != nil {
		return err
	}
	return s.syncLocked()
}

func (s *Store) syncLocked() error {
	folder, err := s.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
