package apps

import (
	_ "embed"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

//go:embed payroll.html
var payrollHTML string

// payroll shows salaries, lets finance approve the month's run, and has reports for auditors below /reports/. Who may do
// what is the gateway's policy alone: the app has no rules of its own.
type payroll struct {
	page *page
	now  func() time.Time

	mu   sync.Mutex
	runs []run
}

type run struct {
	Month, Approved string
	Total           int // whole euros
}

type employee struct {
	Name, Role string
	Salary     int // whole euros a month
}

var employees = []employee{
	{"Ines Okafor", "Engineer", 5200},
	{"Lena Vogt", "Auditor", 5450},
	{"Mira Sol", "Harbour master", 6900},
	{"Ravi Menon", "Accountant", 5100},
	{"Yusuf Adeyemi", "Crane operator", 4350},
}

// NewPayroll makes the payroll with two past runs. now is the clock of approvals.
func NewPayroll(gate *Gatekeeper, now func() time.Time) http.Handler {
	p := &payroll{page: newPage("Payroll", "", payrollHTML), now: now}
	for _, back := range []int{2, 1} {
		month := now().AddDate(0, -back, 1-now().Day())
		p.runs = append(p.runs, run{month.Format("January 2006"), "Ravi Menon", total()})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", gate.admit(p.home))
	mux.HandleFunc("POST /runs", gate.admit(p.approve))
	mux.HandleFunc("GET /reports/", gate.admit(p.reports))
	return mux
}

func (p *payroll) home(w http.ResponseWriter, _ *http.Request, v *Visitor) {
	month := p.now().Format("January 2006")
	runs := p.list()
	open := !slices.ContainsFunc(runs, func(r run) bool { return r.Month == month })
	p.page.show(w, http.StatusOK, "home", v, map[string]any{"Employees": employees, "Month": month, "Open": open})
}

func (p *payroll) approve(w http.ResponseWriter, r *http.Request, v *Visitor) {
	month := p.now().Format("January 2006")
	p.mu.Lock()
	if !slices.ContainsFunc(p.runs, func(r run) bool { return r.Month == month }) {
		p.runs = append(p.runs, run{month, v.Shown(), total()})
	}
	p.mu.Unlock()
	http.Redirect(w, r, "/reports/", http.StatusSeeOther)
}

func (p *payroll) reports(w http.ResponseWriter, _ *http.Request, v *Visitor) {
	runs := p.list()
	slices.Reverse(runs)
	p.page.show(w, http.StatusOK, "reports", v, map[string]any{"Runs": runs, "People": len(employees)})
}

func (p *payroll) list() []run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.runs)
}

func total() int {
	sum := 0
	for _, e := range employees {
		sum += e.Salary
	}
	return sum
}

// Euros writes whole euros with a space between thousands.
func (e employee) Euros() string { return euros(e.Salary) }

// Euros writes whole euros with a space between thousands.
func (r run) Euros() string { return euros(r.Total) }

func euros(n int) string {
	if n < 1000 {
		return fmt.Sprintf("%d €", n)
	}
	return fmt.Sprintf("%d\u202f%03d €", n/1000, n%1000)
}
