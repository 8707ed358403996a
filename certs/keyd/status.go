package keyd

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport/certs/internal/wire"
)

// Status is what a running keyd says about itself: its keys, what they signed and refused, and which protections hold.
type Status = wire.Status

// AskStatus asks the keyd that listens on socket. The caller must be root, keyd's user or one of allow_uids.
func AskStatus(socket string) (*Status, error) {
	c, err := net.DialTimeout("unix", socket, ioTimeout)
	if err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(ioTimeout))
	if err := wire.Offer(c); err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	if _, err := c.Write(wire.AppendFrame(nil, wire.Frame{ID: 1, Kind: byte(wire.OpStatus)})); err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	f, err := wire.ReadFrame(c, wire.MaxAnswer)
	if err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	if code := wire.Code(f.Kind); code != wire.OK {
		return nil, fmt.Errorf("asking keyd: %s: %s", code, f.Body)
	}
	var st Status
	if err := json.Unmarshal(f.Body, &st); err != nil {
		return nil, fmt.Errorf("asking keyd: %w", err)
	}
	return &st, nil
}

// PrintStatus writes st for people.
func PrintStatus(w io.Writer, st *Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "mode\t%s\npid\t%d\nuid\t%d\nstarted\t%s\nconnections\t%d\npeers refused\t%d\n",
		st.Mode, st.PID, st.UID, st.Started.Format(time.RFC3339), st.Connections, st.Turned)
	for _, code := range slices.Sorted(maps.Keys(st.Refusals)) {
		fmt.Fprintf(t, "requests refused: %s\t%d\n", code, st.Refusals[code])
	}
	fmt.Fprint(t, "\nKEY\tPURPOSE\tSIGNED\tREFUSED\tID\tNAMES\n")
	for _, k := range st.Keys {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\n", k.Name, k.Purpose, k.Signed, k.Refused, k.ID, strings.Join(k.Names, " "))
	}
	fmt.Fprint(t, "\nPROTECTION\tHOLDS\tWHY NOT\n")
	for _, f := range st.Sandbox {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Name, map[bool]string{true: "yes", false: "no"}[f.Holds], f.Detail)
	}
	return t.Flush()
}
