package keyd

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"sallyport/certs/internal/wire"
)

// Rotation is what AskRotate did.
type Rotation = wire.Rotation

// AskRotate has the keyd that listens on socket make the next key of a name. Now skips the time in which it is published
// and not used: for a key that may be known to others. The caller must be root or keyd's user.
func AskRotate(socket, name string, now bool) (*Rotation, error) {
	request, err := json.Marshal(wire.RotateRequest{Name: name, Now: now})
	if err != nil {
		return nil, err
	}
	body, err := ask(socket, wire.OpRotate, request)
	if err != nil {
		return nil, err
	}
	var r Rotation
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	return &r, nil
}

// AskReload has the keyd that listens on socket read its configuration again, and returns why it did not take it. The
// caller must be root or keyd's user.
func AskReload(socket string) error {
	before, err := AskStatus(socket)
	if err != nil {
		return err
	}
	if err := syscall.Kill(before.PID, syscall.SIGHUP); err != nil {
		return fmt.Errorf("reloading: signalling pid %d: %w", before.PID, err)
	}
	for end := time.Now().Add(askWithin); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		st, err := AskStatus(socket)
		switch {
		case err != nil:
			return err
		case st.Reload == nil || before.Reload != nil && st.Reload.Count == before.Reload.Count:
			continue
		case st.Reload.Error != "":
			return errors.New("not reloaded: " + st.Reload.Error)
		}
		return nil
	}
	return errors.New("reloading: keyd did not say how it went; its log does")
}
