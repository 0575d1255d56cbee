-- A module file of Lmod for an installed moesaic, an example to adapt.
--
-- Where it lies in the installed tree it works as it is:
--     module use PREFIX/share/moesaic/slurm/sites
--     module load moesaic
-- Or copy it to a folder of MODULEPATH as moesaic/VERSION.lua and write the prefix below.
local prefix = myFileName():match("^(.*)/share/moesaic/") or "/opt/moesaic"

help([[
moesaic trains Mixture-of-Experts transformers as one MPI program.

    mpirun -n 8 moesaic train DECK.ini [key=value ...]
    sbatch --nodes=2 $MOESAIC_SHARE/slurm/train.sbatch DECK.ini
    moesaic --help

Decks to start from are in $MOESAIC_SHARE/inputs, what there is to read in $MOESAIC_SHARE/docs.]])
whatis("Name: moesaic")
whatis("Description: Mixture-of-Experts training as one MPI program")
conflict("moesaic")

-- What the program was built with, under the names that your site has for it:
-- depends_on("gcc/12", "openmpi/4.1", "hdf5/1.10-mpi", "openblas", "cuda/12.8", "nccl", "cudnn")

prepend_path("PATH", pathJoin(prefix, "bin"))
prepend_path("CMAKE_PREFIX_PATH", prefix)                -- find_package(moesaic)
setenv("MOESAIC", pathJoin(prefix, "bin", "moesaic"))    -- what slurm/train.sbatch starts
setenv("MOESAIC_SHARE", pathJoin(prefix, "share", "moesaic"))

-- Settings of the site for the job script; see example.env beside this file.
-- setenv("SITE", pathJoin(prefix, "share", "moesaic", "slurm", "sites", "mine.env"))
-- setenv("LAUNCH", "srun")
