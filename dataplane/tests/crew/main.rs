//! Workers as threads over ports in memory: nothing is lost, flows keep their order, tables are freed, death is seen.

mod conservation;
mod life;
mod rig;
mod rounds;
