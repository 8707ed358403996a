package keyd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport/certs/internal/wire"
)

// SigningLog is what a running keyd remembers of its signatures and refusals.
type SigningLog = wire.SigningLog

// AskSigningLog asks the keyd that listens on socket for all that it remembers, see AskStatus.
func AskSigningLog(socket string) (*SigningLog, error) {
	var all *SigningLog
	after := uint64(0)
	for {
		body, err := ask(socket, wire.OpSigningLog, wire.AfterBody(after))
		if err != nil {
			return nil, err
		}
		var part SigningLog
		if err := json.Unmarshal(body, &part); err != nil {
			return nil, fmt.Errorf("asking keyd: %w", err)
		}
		if all == nil {
			all = &part
		} else if all.Boot != part.Boot {
			return nil, errors.New("asking keyd: it began anew meanwhile")
		} else {
			all.Entries, all.Next = append(all.Entries, part.Entries...), part.Next
		}
		if len(part.Entries) == 0 || part.Entries[len(part.Entries)-1].Seq+1 >= part.Next {
			return all, nil
		}
		after = part.Entries[len(part.Entries)-1].Seq
	}
}

// PrintSigningLog writes l for people, a line for each refusal and each row of a window.
func PrintSigningLog(w io.Writer, l *SigningLog) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "run\t%s\n", l.Boot)
	if l.Oldest > 1 {
		fmt.Fprintf(t, "forgotten\t%d entries: the log is bounded\n", l.Oldest-1)
	}
	fmt.Fprint(t, "\nNUMBER\tTIME\tKEY\tOPERATION\tSIGNED\tREFUSED\tWHY\n")
	for _, e := range l.Entries {
		if r := e.Refusal; r != nil {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t\t%s\t%s (pid %d of uid %d)\n", e.Seq, r.Time.Format(time.RFC3339), r.Key, r.Op, r.Code, r.Why, r.PID, r.UID)
		}
		if e.Window != nil {
			printWindow(t, e.Seq, e.Window)
		}
	}
	return t.Flush()
}

func printWindow(w io.Writer, seq uint64, win *wire.SigningWindow) {
	length := win.To.Sub(win.From)
	for _, row := range win.Rows {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%d\tin %s\n", seq, win.From.Format(time.RFC3339), row.Key, row.Op, row.Signed, row.Refused, length)
	}
	if win.Other != (wire.SigningCount{}) {
		fmt.Fprintf(w, "%d\t%s\tothers\t\t%d\t%d\tin %s\n", seq, win.From.Format(time.RFC3339), win.Other.Signed, win.Other.Refused, length)
	}
	if win.Dropped > 0 {
		var codes []string
		for _, code := range slices.Sorted(maps.Keys(win.Codes)) {
			codes = append(codes, fmt.Sprintf("%s %d", code, win.Codes[code]))
		}
		fmt.Fprintf(w, "%d\t%s\t\t\t\t%d\thave no line of their own; all refusals: %s\n", seq, win.From.Format(time.RFC3339), win.Dropped, strings.Join(codes, ", "))
	}
}
