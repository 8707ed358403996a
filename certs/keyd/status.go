package keyd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport/certs/internal/wire"
)

// Status is what a running keyd says about itself: its keys, what they signed and refused, and which protections hold.
type Status = wire.Status

// TrustLines are the lines of a trust file, in which `sallyport audit verify` finds whom to believe: a verifier key for each
// epoch of each log, and for manifests. They come from the keyd that listens on socket, see AskStatus.
func TrustLines(socket string) ([]string, error) {
	body, err := ask(socket, wire.OpList, nil)
	if err != nil {
		return nil, err
	}
	var list wire.List
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	var lines []string
	for _, k := range list.Keys {
		for _, o := range k.Origins {
			if o.InUse == "" {
				return nil, fmt.Errorf("keyd signs nothing for %s: its status says why", o.Base)
			}
			lines = append(lines, o.VerifierKeys...)
		}
	}
	if len(lines) == 0 {
		return nil, errors.New("keyd has no checkpoint key and no manifest key: keyd init adds them")
	}
	return lines, nil
}

// AskStatus asks the keyd that listens on socket. The caller must be root, keyd's user or one of allow_uids.
func AskStatus(socket string) (*Status, error) {
	body, err := ask(socket, wire.OpStatus, nil)
	if err != nil {
		return nil, err
	}
	var st Status
	if err := json.Unmarshal(body, &st); err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	return &st, nil
}

// askWithin is how long keyd's operator waits for an answer: a change of keys waits for the disk several times.
const askWithin = 10 * time.Second

// ask makes one request.
func ask(socket string, op wire.Op, body []byte) ([]byte, error) {
	c, err := net.DialTimeout("unix", socket, ioTimeout)
	if err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(askWithin))
	if err := wire.Offer(c); err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	if _, err := c.Write(wire.AppendFrame(nil, wire.Frame{ID: 1, Kind: byte(op), Body: body})); err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	f, err := wire.ReadFrame(c, wire.MaxAnswer)
	if err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	if code := wire.Code(f.Kind); code != wire.OK {
		return nil, fmt.Errorf("asking keyd: %s: %s", code, f.Body)
	}
	return f.Body, nil
}

// PrintStatus writes st for people.
func PrintStatus(w io.Writer, st *Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "mode\t%s\npid\t%d\nuid\t%d\nstarted\t%s\nconnections\t%d\npeers refused\t%d\n",
		st.Mode, st.PID, st.UID, st.Started.Format(time.RFC3339), st.Connections, st.Turned)
	for _, code := range slices.Sorted(maps.Keys(st.Refusals)) {
		fmt.Fprintf(t, "requests refused: %s\t%d\n", code, st.Refusals[code])
	}
	if a := st.LastAlarm; a != nil {
		fmt.Fprintf(t, "ALARMS\t%d: a key was asked for what it is not for; last at %s: %s, %s, by pid %d of uid %d\n",
			st.Alarms, a.Time.Format(time.RFC3339), a.Op, a.Why, a.PID, a.UID)
	}
	fmt.Fprint(t, "\nKEY\tPURPOSE\tGENERATION\tUNTIL\tSIGNED\tREFUSED\tID\tNAMES\n")
	for _, k := range st.Keys {
		until := "-"
		if !k.Until.IsZero() {
			until = k.Until.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%d %s\t%s\t%d\t%d\t%s\t%s\n", k.Name, k.Purpose, k.Generation, k.Stage, until, k.Signed, k.Refused, k.ID, strings.Join(k.Names, " "))
	}
	for _, k := range st.Keys {
		if k.Problem != "" {
			fmt.Fprintf(t, "PROBLEM\t%s: %s\n", k.Name, k.Problem)
		}
	}
	if r := st.Reload; r != nil && r.Error != "" {
		fmt.Fprintf(t, "\nPROBLEM\tnot reloaded at %s: %s\n", r.Time.Format(time.RFC3339), r.Error)
	}
	printNotes(t, st.Keys)
	fmt.Fprint(t, "\nPROTECTION\tHOLDS\tHOW, OR WHY NOT\n")
	for _, f := range st.Sandbox {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Name, map[bool]string{true: "yes", false: "no"}[f.Holds], f.Detail)
	}
	return t.Flush()
}

// printNotes prints what is signed under which name, if anything is.
func printNotes(w io.Writer, keys []wire.KeyStatus) {
	title := "\nORIGIN\tKEY\tSIZE SIGNED\tVERIFIER KEY\tPROBLEM\n"
	for _, k := range keys {
		for _, n := range k.Notes {
			size := "none"
			if n.Root != "" {
				size = strconv.FormatUint(n.Size, 10)
			}
			fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\n", title, n.Name, k.Name, size, n.VerifierKey, n.Problem)
			title = ""
		}
	}
}
