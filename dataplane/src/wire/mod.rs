//! Header views: borrowed, alignment 1, no allocation. A view judges nothing; `parse` judges and returns a reason.
